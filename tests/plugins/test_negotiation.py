"""What the plugin tells TensorRT's builder: types, formats, shapes, and which of them it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tests.plugins.driving import (
    BF16,
    BOOL,
    CHW2,
    FLOAT,
    FP8,
    HALF,
    HWC8,
    INT8,
    INT32,
    INT64,
    LINEAR,
    UINT8,
    Driver,
    Tensor,
    tensors_of,
)

ALL_TYPES = (FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64)
REAL = (FLOAT, HALF, BF16)
VARIANTS = [
    {"head_dim": 64},
    {"head_dim": 64, "rotary_dim": 32, "heads_axis": 2},
    {"head_dim": 64, "heads_axis": 2, "out_heads_axis": 1},
    {"head_dim": 64, "heads_axis": 1, "out_heads_axis": 2},
    {"head_dim": 64, "sections": [8, 12, 12]},
    {"head_dim": 64, "norm_eps": 1e-6},
    {"head_dim": 64, "norm_eps": 1e-6, "sections": [8, 12, 12], "sections_interleaved": 1, "heads_axis": 2},
]
SEEN = {1: ((2, 9, 5, 64), (2, 3, 5, 64)), 2: ((2, 5, 9, 64), (2, 5, 3, 64))}  # by heads_axis


def laid_out(operation: str, attributes: dict, **types: int) -> tuple[list[Tensor], int]:
    """Inputs and outputs of a call, and how many of them are inputs."""
    q, k = SEEN[attributes.get("heads_axis", 1)]
    tensors = tensors_of(attributes, q, k if operation == "RopeRotateQK" else None, 10, **types)
    return tensors, len(tensors) - (2 if operation == "RopeRotateQK" else 1)


@pytest.fixture(params=["RopeRotate", "RopeRotateQK"])
def operation(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=VARIANTS, ids=str)
def made(request: pytest.FixtureRequest, driver: Driver, operation: str):
    driver.log_as(110400)
    plugin = driver.create(operation, request.param)
    assert plugin is not None, driver.heard()
    yield plugin, request.param
    driver.destroy(plugin)


def supported(driver: Driver, plugin: int, tensors: list[Tensor], inputs: int) -> bool:
    return all(driver.supports(plugin, position, tensors, inputs) for position in range(len(tensors)))


def test_exactly_the_meant_types_are_supported(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    for real, cache, index in product(REAL, REAL, (INT32, INT64)):
        tensors, inputs = laid_out(operation, attributes, real=real, cache=cache, index=index)
        assert supported(driver, plugin, tensors, inputs) == (cache in (FLOAT, real)), (real, cache, index)


def test_no_other_type_is_supported_anywhere(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes, real=HALF)
    assert supported(driver, plugin, tensors, inputs)
    rows = 4 if operation == "RopeRotateQK" else 3
    for position, other in product(range(len(tensors)), ALL_TYPES):
        changed = [*tensors]
        changed[position] = tensors[position].of(other)
        fine = other == tensors[position].type or (position == rows and other in (INT32, INT64))
        fine |= position == 0 and other in REAL  # the first alone is free; what follows must agree with it
        first_cache = position in (rows - 2, rows + 1) and other in (FLOAT, HALF)
        fine |= first_cache and position < inputs
        assert driver.supports(plugin, position, changed, inputs) == fine, (position, other)


def test_only_the_linear_format_is_supported(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes, real=HALF)
    for position, format in product(range(len(tensors)), (LINEAR, CHW2, HWC8)):
        changed = [*tensors]
        changed[position] = replace(tensors[position], format=format)
        assert driver.supports(plugin, position, changed, inputs) == (format == LINEAR)


def test_outputs_have_the_types_of_what_they_rotate(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    for real in REAL:
        tensors, inputs = laid_out(operation, attributes, real=real)
        types = [tensor.type for tensor in tensors]
        assert driver.output_types(plugin, types[:inputs], len(types) - inputs) == types[inputs:]


def test_outputs_have_the_shapes_of_what_they_rotate(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes)
    shapes = [tensor.shape for tensor in tensors]
    assert driver.output_shapes(plugin, tensors[:inputs], len(tensors) - inputs) == shapes[inputs:]
    assert driver.configure(plugin, tensors, inputs) == 0 and driver.shape_change(plugin, tensors, inputs) == 0
    assert driver.heard() == ""


def test_sizes_that_are_not_known_yet_stay_unknown(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes)
    unknown = [replace(t, shape=(-1,) * (len(t.shape) - 1) + t.shape[-1:]) for t in tensors]
    expected = [tensor.shape for tensor in unknown[inputs:]]
    assert driver.output_shapes(plugin, unknown[:inputs], len(tensors) - inputs) == expected
    nothing = [replace(t, shape=(-1,) * len(t.shape)) for t in tensors]
    assert driver.output_shapes(plugin, nothing[:inputs], len(tensors) - inputs) is not None
    assert driver.configure(plugin, unknown, inputs) == 0


def test_every_contradicting_size_is_refused_with_a_message(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes)
    heads_axis = attributes.get("heads_axis", 1)
    free = {(0, heads_axis)} | ({(1, heads_axis)} if operation == "RopeRotateQK" else set())
    for position, tensor in enumerate(tensors[:inputs]):
        for axis in range(len(tensor.shape)):
            if (position, axis) in free:
                continue
            changed = [*tensors]
            changed[position] = replace(tensor, shape=(*tensor.shape[:axis], 7, *tensor.shape[axis + 1 :]))
            driver.log_as(110400)
            assert driver.output_shapes(plugin, changed[:inputs], len(tensors) - inputs) is None, (position, axis)
            assert "must be" in driver.heard()
            assert driver.configure(plugin, changed, inputs) != 0
            assert driver.shape_change(plugin, changed, inputs) != 0


def test_another_rank_is_refused(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes)
    for position, tensor in enumerate(tensors[:inputs]):
        for shape in (tensor.shape[1:], (1, *tensor.shape)):
            changed = [*tensors]
            changed[position] = replace(tensor, shape=shape)
            assert driver.output_shapes(plugin, changed[:inputs], len(tensors) - inputs) is None
            assert "dimensions" in driver.heard()


def test_another_number_of_inputs_or_outputs_is_refused(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes)
    outputs = len(tensors) - inputs
    for given, made_ in ((inputs - 1, outputs), (inputs + 1, outputs), (inputs, outputs + 1), (0, outputs)):
        some = ([*tensors[:inputs], tensors[0]])[:given]
        assert driver.output_shapes(plugin, some, made_) is None
        assert driver.output_types(plugin, [one.type for one in some], made_) is None
        everything = [*some, *([tensors[-1]] * made_)]
        assert not driver.supports(plugin, 0, everything, given)
        assert driver.configure(plugin, everything, given) != 0
        assert driver.shape_change(plugin, everything, given) != 0
        assert f"takes {inputs}" in driver.heard()
    assert not driver.supports(plugin, len(tensors), tensors, inputs)
    assert not driver.supports(plugin, -1, tensors, inputs)


def test_all_sequences_may_share_one_row_of_positions(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes)
    rows = 4 if operation == "RopeRotateQK" else 3
    *axes, _, tokens = tensors[rows].shape
    tensors[rows] = replace(tensors[rows], shape=(*axes, 1, tokens))
    assert driver.output_shapes(plugin, tensors[:inputs], len(tensors) - inputs) is not None
    assert driver.shape_change(plugin, tensors, inputs) == 0


def test_nothing_to_rotate_is_fine(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tokens_axis = 3 - attributes.get("heads_axis", 1)
    for axis in (0, tokens_axis):
        tensors, inputs = laid_out(operation, attributes)
        empty = [
            replace(t, shape=(*t.shape[:axis], 0, *t.shape[axis + 1 :])) if len(t.shape) == 4 else t for t in tensors
        ]
        sizes = {"batch": 0 if axis == 0 else 2, "tokens": 0 if axis else 5}
        rows = 4 if operation == "RopeRotateQK" else 3
        *axes, _, _ = tensors[rows].shape
        empty[rows] = replace(tensors[rows], shape=(*axes, sizes["batch"], sizes["tokens"]))
        outputs = driver.output_shapes(plugin, empty[:inputs], len(tensors) - inputs)
        assert outputs is not None and all(0 in shape for shape in outputs)
        empty[inputs:] = [replace(t, shape=shape) for t, shape in zip(empty[inputs:], outputs)]
        assert driver.shape_change(plugin, empty, inputs) == 0
        addresses = [4096 * (1 + number) for number in range(len(tensors))]
        assert driver.enqueue(plugin, empty, addresses[:inputs], addresses[inputs:]) == 0, driver.heard()


def test_a_launch_that_fails_ends_in_a_message(driver: Driver, operation: str, made) -> None:
    plugin, attributes = made
    tensors, inputs = laid_out(operation, attributes)
    assert driver.enqueue(plugin, tensors, [0] * inputs, [0] * (len(tensors) - inputs)) == 1
    assert driver.heard().startswith(f"{operation} refuses launch: ") and "null" in driver.heard()
