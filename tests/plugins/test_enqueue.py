"""The plugin's enqueue against fp64: on the CPU, with the kernel compiled for it, and on a GPU, on torch tensors.

The plugin is created from attributes and given descriptions and addresses, as TensorRT does it. On a GPU the library
is first loaded into the registry of tensorrt-lean, if that can be imported; where a GPU is, no other package of
TensorRT need be. Imports numpy, pytest, torch (on a GPU), plugins/ and rope_deploy.rope alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from plugins.tests.cases import EPS, MARGIN, Case, Field, Problem, decode, half_ulp
from plugins.tests.selections import HEADS, PAIRINGS, WIDTHS, varied, with_pairing
from tests.plugins.driving import BF16, FLOAT, HALF, INT32, INT64, Built, Driver, Tensor

TYPES = {"float32": FLOAT, "float16": HALF, "bfloat16": BF16}
LAYOUTS = ("BNSH", "BSNH")
EVERY_ON_CPU = 4


class Host:
    """Memory that is the CPU's own."""

    def put(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array).copy()

    def address(self, block: np.ndarray) -> int:
        return block.ctypes.data

    def get(self, block: np.ndarray, like: np.ndarray) -> np.ndarray:
        return block


class Gpu:
    """Memory in torch tensors."""

    def __init__(self) -> None:
        import torch

        self._torch = torch

    def put(self, array: np.ndarray) -> object:
        return self._torch.from_numpy(np.ascontiguousarray(array).view(np.uint8).reshape(-1).copy()).cuda()

    def address(self, block: object) -> int:
        return block.data_ptr()

    def get(self, block: object, like: np.ndarray) -> np.ndarray:
        return block.cpu().numpy().view(like.dtype)  # waits for the launch


class Machine:
    """A driver for a library, and the memory that its kernel reaches."""

    def __init__(self, built: Built, on_gpu: bool) -> None:
        self.on_gpu, self.memory = on_gpu, Gpu() if on_gpu else Host()
        library = built.library if on_gpu else built.host_library
        if on_gpu:
            _load_into_tensorrt(str(library))
        self.driver = Driver(str(built.driver), str(library))


def _load_into_tensorrt(library: str) -> None:
    try:
        import tensorrt_lean_bindings as trt
    except ImportError:
        return
    registry = trt.get_plugin_registry()
    if registry.get_creator("RopeRotate", "1", "") is None:
        assert registry.load_library(library) is not None


@pytest.fixture(scope="module", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest, built: Built) -> Machine:
    return Machine(built, request.param == "gpu")


def attributes(case: Case) -> dict[str, object]:
    """Those of the node that asks for this case."""
    heads_axis = {name: axis for axis, name in enumerate(LAYOUTS, 1)}
    return {
        "head_dim": case.head_dim,
        "rotary_dim": case.rotary_dim,
        "heads_axis": heads_axis[case.layout_in],
        "interleaved": int(case.interleaved),
        "out_heads_axis": heads_axis[case.layout_out],
        "proportional": int(case.proportional),
        "out_of_range": int(case.passes),
        "sections": list(case.sections or (0, 0, 0)),
        "sections_interleaved": int(case.mixed),
        "norm_eps": EPS if case.norm else 0.0,
    }


def described(case: Case, heads: int, layout: str) -> Tensor:
    b, s, h = case.batch, case.tokens, case.head_dim
    return Tensor((b, heads, s, h) if layout == "BNSH" else (b, s, heads, h), TYPES[case.type])


def outcome(case: Case, machine: Machine, seed: int = 0, **planted: object) -> list[str]:
    """What is wrong, in words, with what enqueue made of the case; empty if nothing. `planted` are wrong attributes."""
    problem, memory, driver = Problem(case, seed), machine.memory, machine.driver
    heads = {"q": case.q_heads, "k": case.k_heads} if case.k_heads else {"q": case.q_heads}
    plugin = driver.create("RopeRotateQK" if case.k_heads else "RopeRotate", attributes(case) | planted)
    if plugin is None:
        return [driver.heard()]
    rows = problem.positions if case.sections else problem.positions[0]
    arrays = [Field(case, case.layout_in, n, problem.x[name]).stored for name, n in heads.items()]
    tensors = [described(case, n, case.layout_in) for n in heads.values()]
    for table in problem.tables:
        arrays.append(table)
        tensors.append(Tensor(table.shape, TYPES[problem.cache_type]))
    arrays.append(rows)
    tensors.append(Tensor(rows.shape, INT64 if case.positions == "int64" else INT32))
    for name in heads if case.norm else ():
        arrays.append(problem.weights[name])
        tensors.append(Tensor((case.head_dim,), TYPES[case.norm_type]))
    results = {name: Field(case, case.layout_out, n) for name, n in heads.items()}
    blocks = [memory.put(array) for array in arrays]
    targets = [memory.put(field.stored) for field in results.values()]
    margin = MARGIN * arrays[0].itemsize
    reads = [memory.address(b) + (margin if index < len(heads) else 0) for index, b in enumerate(blocks)]
    writes = [memory.address(block) + margin for block in targets]
    made = [described(case, n, case.layout_out) for n in heads.values()]
    driver.log_as(110400) if not machine.on_gpu else None
    code = driver.enqueue(plugin, [*tensors, *made], reads, writes)
    driver.destroy(plugin)
    if code != 0:
        return [f"refused: {driver.heard()}"]
    return [
        f"{name}: {fault}"
        for (name, field), block in zip(results.items(), targets)
        for fault in faults(problem, name, field, memory.get(block, field.stored))
    ]


def faults(problem: Problem, name: str, field: Field, after: np.ndarray) -> Iterator[str]:
    kind = problem.case.type
    came = decode(kind, field.view(after).copy())
    field.view(after)[...] = field.view(field.stored)
    if not np.array_equal(after.view(np.uint8), field.stored.view(np.uint8)):
        yield "something outside the tensor was written"
    wanted, slack = problem.expected(name)
    with np.errstate(invalid="ignore"):
        near = abs(came - wanted) <= half_ulp(kind, np.nan_to_num(abs(wanted) + slack)) + slack
    wrong = ~(near | (np.isnan(came) & np.isnan(wanted)))
    if wrong.any():
        where = tuple(int(index[0]) for index in np.nonzero(wrong))
        yield f"{wrong.sum()} of {wrong.size} elements are wrong, first {where}: {came[where]} for {wanted[where]}"


def grid(kind: str, pairing: str) -> Iterator[Case]:
    """Every width × both layouts in and out × type of cache and of rows × heads, sizes varied along."""
    axes = product(WIDTHS, LAYOUTS, LAYOUTS, ("float32", "same"), ("int32", "int64"), HEADS)
    for number, ((head, rotary), source, target, cache, positions, (q, k)) in enumerate(axes):
        yield with_pairing(
            pairing,
            Case(
                type=kind,
                cache=cache,
                **varied(number),
                q_heads=q,
                k_heads=k,
                head_dim=head,
                rotary_dim=rotary,
                positions=positions,
                layout_in=source,
                layout_out=target,
            ),
        )


def failures(machine: Machine, cases: list[Case]) -> dict[Case, list[str]]:
    return {case: wrong for number, case in enumerate(cases) if (wrong := outcome(case, machine, number))}


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_layout_and_width_is_right(machine: Machine, kind: str, pairing: str) -> None:
    cases = list(grid(kind, pairing))
    if not machine.on_gpu:
        cases = cases[(list(TYPES).index(kind) + PAIRINGS.index(pairing)) % EVERY_ON_CPU :: EVERY_ON_CPU]
    assert len(cases) > 150 and {case.layout_out for case in cases} == set(LAYOUTS)
    assert failures(machine, cases) == {}


USUAL = Case(layout_in="BNSH", layout_out="BNSH")
OPTIONS = {
    "rows of NaN": replace(USUAL, poisoned=True),
    "rows outside the caches": replace(USUAL, strays="far"),
    "rows outside, of 32 bits": replace(USUAL, strays="near", positions="int32"),
    "rows that wrap around": replace(USUAL, strays="wrapped"),
    "rows outside pass": replace(USUAL, strays="far", passes=True),
    "sections": replace(USUAL, sections=(8, 12, 12)),
    "sections, shared rows": replace(USUAL, sections=(8, 12, 12), shared=True, positions="int32"),
    "sections, interleaved": replace(USUAL, sections=(8, 12, 12), mixed=True),
    "sections of a prefix": replace(USUAL, head_dim=128, sections=(16, 8, 8), strays="near"),
    "norm": replace(USUAL, norm="qk"),
    "norm of one tensor": replace(USUAL, norm="q", k_heads=0),
    "norm, weights of x's type": replace(USUAL, norm="qk", norm_type="bfloat16", layout_in="BSNH"),
    "one token": replace(USUAL, tokens=1, batch=7),
    "one sequence": replace(USUAL, batch=1, tokens=33),
    "no token": replace(USUAL, tokens=0),
    "no sequence": replace(USUAL, batch=0),
}


@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS)
def test_every_option_is_right(machine: Machine, case: Case) -> None:
    for seed in range(8):
        assert outcome(case, machine, seed) == []


@pytest.mark.parametrize(
    ("case", "planted"),
    [
        (USUAL, {"interleaved": 1}),
        (replace(USUAL, rotary_dim=32), {"proportional": 1}),
        (replace(USUAL, strays="far", tokens=33), {"out_of_range": 1}),
        (replace(USUAL, sections=(8, 12, 12)), {"sections": [12, 8, 12]}),
        (replace(USUAL, sections=(8, 12, 12)), {"sections_interleaved": 1}),
        (replace(USUAL, norm="qk"), {"norm_eps": 0.5}),
        (replace(USUAL, q_heads=4, k_heads=3, tokens=5), {"heads_axis": 2}),
        (replace(USUAL, q_heads=4, k_heads=3, tokens=5), {"out_heads_axis": 2}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_attribute_is_noticed(machine: Machine, case: Case, planted: dict) -> None:
    """What compares would notice if enqueue took no notice of an attribute."""
    if "heads_axis" in planted or "out_heads_axis" in planted:
        # The memory is then taken for something of another shape; with these sizes it stays inside.
        case = replace(case, q_heads=5, k_heads=5)
    assert outcome(case, machine) == []
    assert any("are wrong" in fault for fault in outcome(case, machine, **planted))


def test_tables_in_each_others_place_are_noticed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Problem._cos_sin
    monkeypatch.setattr(Problem, "_cos_sin", lambda self: original(self)[::-1])
    assert any("are wrong" in fault for fault in outcome(USUAL, machine))


def test_an_error_of_one_unit_in_the_last_place_is_noticed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Problem.expected

    def shifted(self: Problem, name: str) -> tuple[np.ndarray, np.ndarray]:
        wanted, slack = original(self, name)
        return wanted + 2.1 * half_ulp(self.case.type, wanted), slack

    monkeypatch.setattr(Problem, "expected", shifted)
    assert any("are wrong" in fault for fault in outcome(USUAL, machine))
