"""Creators: meaningful attributes make a plugin, anything else None and a message, in the logger of any TensorRT."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plugins.driving import (
    BUILD,
    FIELD_CHAR,
    FIELD_FLOAT32,
    FIELD_INT32,
    FIELD_INT64,
    NO_COLLECTION,
    NO_FIELDS,
    RUNTIME,
    Driver,
)

OPERATORS = ("RopeRotate", "RopeRotateQK")
NEWEST, OLD, RTX = 110400, 101401, 10701  # getInferLibVersion of TensorRT 11.4, 10.14 and TensorRT-RTX 1.7
NO_VERSION = 0

GOOD = [
    {"head_dim": 64},
    {"head_dim": 2},
    {"head_dim": 128, "rotary_dim": 32},
    {"head_dim": 128, "rotary_dim": 128, "heads_axis": 2, "interleaved": 1},
    {"head_dim": 80, "rotary_dim": 64, "proportional": 1},
    {"head_dim": 128, "sections": [16, 24, 24]},
    {"head_dim": 128, "rotary_dim": 64, "sections": [32, 0, 0], "sections_interleaved": 1},
    {"head_dim": 128, "sections": [0, 0, 0], "norm_eps": 1e-6},
    {"head_dim": 128, "heads_axis": 2, "out_heads_axis": 1, "out_of_range": 1},
]
BAD = [
    ({}, "head_dim is 0"),
    ({"head_dim": 0}, "head_dim is 0"),
    ({"head_dim": -64}, "head_dim is -64"),
    ({"head_dim": 63}, "even"),
    ({"head_dim": 2**30}, "65536"),
    ({"head_dim": 64, "rotary_dim": 66}, "more than the 64"),
    ({"head_dim": 64, "rotary_dim": 31}, "even"),
    ({"head_dim": 64, "rotary_dim": -2}, "rotary_dim is -2"),
    ({"head_dim": 64, "heads_axis": 0}, "heads_axis is 0"),
    ({"head_dim": 64, "heads_axis": 3}, "heads_axis is 3"),
    ({"head_dim": 64, "interleaved": 2}, "interleaved is 2"),
    ({"head_dim": 64, "interleaved": 1, "proportional": 1}, "choose one"),
    ({"head_dim": 64, "out_of_range": -1}, "out_of_range is -1"),
    ({"head_dim": 64, "sections": [16, 24, 24]}, "has 32"),
    ({"head_dim": 64, "sections": [64, -16, -16]}, "sections is -16"),
    ({"head_dim": 64, "sections": [16, 16]}, "takes 3"),
    ({"head_dim": 64, "sections_interleaved": 1}, "needs sections"),
    ({"head_dim": [64, 64]}, "takes 1"),
    ({"head_dim": 64, "norm_eps": -1e-6}, "norm_eps"),
    ({"head_dim": 64, "norm_eps": float("nan")}, "norm_eps is nan"),
    ({"head_dim": 64, "norm_eps": float("inf")}, "norm_eps is inf"),
    ({"head_dim": 64.0}, "int32"),
    ({"head_dim": 64, "norm_eps": 1}, "float32"),
    ({"head_dim": 64, "theta": 10000}, "no attribute theta"),
    ({"head_dim": 64, "x" * 1000: 1}, "no attribute xxx"),
]


@pytest.mark.parametrize("phase", [BUILD, RUNTIME])
@pytest.mark.parametrize("operation", OPERATORS)
@pytest.mark.parametrize("attributes", GOOD, ids=str)
def test_meaningful_attributes_make_a_plugin(driver: Driver, operation: str, attributes: dict, phase: int) -> None:
    driver.log_as(NEWEST)
    plugin = driver.create(operation, attributes, phase)
    assert plugin is not None and driver.heard() == ""
    assert driver.identity(plugin) == f"{operation}|1|"
    assert driver.outputs(plugin) == (2 if operation.endswith("QK") else 1)
    driver.destroy(plugin)


@pytest.mark.parametrize("operation", OPERATORS)
@pytest.mark.parametrize(("attributes", "words"), BAD, ids=[words for _, words in BAD])
def test_meaningless_attributes_make_none_and_a_message(
    driver: Driver, operation: str, attributes: dict, words: str
) -> None:
    driver.log_as(NEWEST)
    assert driver.create(operation, attributes, layer="model/layers.0") is None
    assert words in driver.heard() and driver.severity() == 1
    assert driver.heard().startswith(f"{operation} model/layers.0 cannot be created: ")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (NO_COLLECTION, "no fields"),
        (NO_FIELDS, "broken"),
        ([(None, FIELD_INT32, np.array([64], np.int32))], "field 0 has no name"),
        ([("head_dim", FIELD_INT32, None)], "takes 1"),
        ([("head_dim", FIELD_INT64, np.array([64], np.int64))], "int32"),
        ([("head_dim", FIELD_CHAR, np.frombuffer(b"64", np.uint8))], "int32"),
        ([("head_dim", 99, np.array([64], np.int32))], "type number 99"),
        ([("head_dim", FIELD_INT32, np.array([], np.int32))], "0 values"),
        ([("head_dim", FIELD_INT32, np.array([64], np.int32))] * 2, "twice"),
        ([("norm_eps", FIELD_FLOAT32, np.array([1e-6, 1e-6], np.float32))], "takes 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("operation", OPERATORS)
def test_fields_that_no_parser_would_send_are_survived(driver: Driver, operation: str, fields: object, words: str):
    driver.log_as(NEWEST)
    assert driver.create_raw(operation, fields, layer=None) is None
    assert words in driver.heard()


@pytest.mark.parametrize("version", [NEWEST, OLD, RTX])
def test_the_message_reaches_the_logger_of_either_tensorrt(driver: Driver, version: int) -> None:
    driver.log_as(version)
    assert driver.create("RopeRotate", {"head_dim": 63}) is None
    assert "even" in driver.heard()


@pytest.mark.parametrize("version", [NEWEST, OLD])
@pytest.mark.parametrize("answer", [1, 2], ids=["finds none", "throws"])
def test_a_finder_without_a_logger_is_survived(driver: Driver, version: int, answer: int) -> None:
    driver.log_as(version, answer)
    assert driver.create("RopeRotate", {"head_dim": 63}) is None
    assert driver.heard() == "", "it went to standard error"


def test_a_library_that_does_not_say_its_version_is_not_called_back(driver: Driver) -> None:
    driver.log_as(NEWEST)
    driver.log_as(NO_VERSION)
    assert driver.create("RopeRotate", {"head_dim": 63}) is None
    assert driver.heard() == ""


@pytest.mark.parametrize("attributes", GOOD, ids=str)
def test_what_an_engine_stores_makes_the_same_plugin(driver: Driver, attributes: dict) -> None:
    plugin = driver.create("RopeRotateQK", attributes)
    copies = [driver.serialize_and_create(plugin), driver.clone(plugin), driver.attach(plugin)]
    assert len({plugin, *copies}) == 4, "each is an object of its own"
    original = driver.timing_id(plugin), driver.identity(plugin)
    driver.destroy(plugin)
    for copy in copies:
        assert (driver.timing_id(copy), driver.identity(copy)) == original
        driver.destroy(copy)


def test_plugins_that_rotate_differently_do_not_share_timings(driver: Driver) -> None:
    plugins = [driver.create("RopeRotate", attributes) for attributes in GOOD]
    assert len({driver.timing_id(plugin) for plugin in plugins}) == len(GOOD)
    same = driver.create("RopeRotate", {"head_dim": 64, "rotary_dim": 64, "heads_axis": 1, "out_heads_axis": 1})
    assert driver.timing_id(same) == driver.timing_id(plugins[0])
