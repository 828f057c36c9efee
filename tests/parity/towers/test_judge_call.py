"""Towers pass their check as exported, and fail it with any fault in their tables, which is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from rope_deploy.export import write
from rope_deploy.results.records import Report
from rope_deploy.styles import STYLES
from tests import towers
from tests.sweep import swept

ROWS, COLUMNS = 4, 6  # of the image that qwen2_5_vl is fed
Tables = tuple[np.ndarray, np.ndarray]
Fault = Callable[[np.ndarray, np.ndarray], Tables]


def exported(name: str, folder: Path, style: str = "onnx") -> Path:
    write(towers.prepared(name), folder, style)
    return folder


def checked(folder: Path, name: str, **options) -> Report:
    return api.check(folder, model=towers.prepared(name).loaded, isolated=False, ignore_hashes=True, **options)


def planted(folder: Path, fault: Fault) -> Path:
    """The artifact with `fault` in its tables, whose last row stays what it was."""
    graph = onnx.load(folder / "model.onnx")
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    cos, sin = (stored[f"rope_0.{what}_cache"] for what in ("cos", "sin"))
    before = [numpy_helper.to_array(tensor) for tensor in (cos, sin)]
    after = fault(before[0][:-1].copy(), before[1][:-1].copy())
    for tensor, old, new in zip((cos, sin), before, after, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.concatenate([new, old[-1:]]).astype(old.dtype), tensor.name))
    onnx.save(graph, folder / "model.onnx")
    return folder


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", swept(towers.TOWERS, ["qwen2_5_vl"]))
def test_a_tower_is_what_pytorch_computes_in_every_style(name, style, tmp_path):
    report = checked(exported(name, tmp_path / style, style), name)
    assert report.verdict == "passed", [(r.case, r.message) for r in report.checks if r.verdict == "failed"]
    cases = {record.case: record for record in report.checks}
    assert cases["coverage"].message.startswith("All 4 sites were compared.")
    assert cases["refuses-other-size"].message.startswith("Refused: ")
    assert {"example", "redrawn", "alike", "faint", "strong"} <= cases.keys()
    assert ("batch" in cases) == (name != "qwen2_5_vl")


def axes_swapped(cos: np.ndarray, sin: np.ndarray) -> Tables:
    half = cos.shape[1] // 2
    return tuple(np.concatenate([table[:, half:], table[:, :half]], axis=1) for table in (cos, sin))


def other_frequencies(cos: np.ndarray, sin: np.ndarray) -> Tables:
    angles = np.arctan2(sin, cos) * np.linspace(1, 1.3, cos.shape[1])
    return np.cos(angles), np.sin(angles)


def one_row_zero(cos: np.ndarray, sin: np.ndarray) -> Tables:
    cos[5] = sin[5] = 0
    return cos, sin


FAULTS: dict[str, tuple[Fault, str]] = {
    "rows shifted by one": (lambda cos, sin: (np.roll(cos, 1, 0), np.roll(sin, 1, 0)), "RD201"),
    "rows and columns swapped": (axes_swapped, "RD209"),
    "turned the other way": (lambda cos, sin: (cos, -sin), "RD102"),
    "not turned": (lambda cos, sin: (np.ones_like(cos), np.zeros_like(sin)), "RD106"),
    "turned twice as far": (lambda cos, sin: (cos**2 - sin**2, 2 * cos * sin), "RD107"),
    "other frequencies": (other_frequencies, "RD900"),
    "a row of nothing": (one_row_zero, "RD403"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_tables_fails_and_is_named(fault, tmp_path):
    plant, code = FAULTS[fault]
    report = checked(planted(exported("qwen2_5_vl", tmp_path / "tower"), plant), "qwen2_5_vl")
    assert report.verdict == "failed"
    assert code in {one.code for one in report.diagnoses}
    (named,) = {one.layers for one in report.diagnoses if one.code == code and one.runtime == "ort"} or {(0, 1)}
    assert named == (0, 1)


@pytest.mark.parametrize("fault", ["rows shifted by one", "other frequencies"])
@pytest.mark.parametrize("name", swept(["dinov3", "lasr"], ["dinov3"]))
def test_a_fault_in_the_tables_of_another_tower_fails(fault, name, tmp_path):
    report = checked(planted(exported(name, tmp_path / "tower"), FAULTS[fault][0]), name, cases=["example", "batch"])
    assert {record.case for record in report.checks if record.verdict == "failed"} == {"example", "batch"}


def test_a_wrong_weight_is_no_fault_of_the_rotation(tmp_path):
    folder = exported("dinov3", tmp_path / "tower")
    graph = onnx.load(folder / "model.onnx")
    weight = next(t for t in graph.graph.initializer if "patch_embeddings" in t.name and t.name.endswith("bias"))
    wrong = numpy_helper.to_array(weight) + np.linspace(0, 1, weight.dims[0], dtype=np.float32)
    weight.CopyFrom(numpy_helper.from_array(wrong, weight.name))
    onnx.save(graph, folder / "model.onnx")
    report = checked(folder, "dinov3", cases=["example"])
    assert report.verdict == "failed"
    assert {one.code for one in report.diagnoses} == {"RD901"}


def test_without_pytorch_lengths_are_judged_and_tables_read(tmp_path):
    folder = exported("qwen2_5_vl", tmp_path / "tower")
    assert api.check(folder, reference=False, isolated=False).verdict == "passed"
    planted(folder, one_row_zero)
    assert api.check(folder, reference=False, isolated=False, ignore_hashes=True).verdict == "failed"


def test_what_was_fixed_is_in_the_manifest(tmp_path):
    manifest = load_manifest(exported("qwen2_5_vl", tmp_path / "tower"))
    assert (manifest.task, manifest.layers, manifest.max_position) == ("tower", 2, ROWS * COLUMNS)
    assert manifest.fixed["grid_thw"].values == [[1, ROWS, COLUMNS]]
    assert manifest.fixed["grid_thw"].dtype == "int64"
    (rotation,) = manifest.rotations
    assert (rotation.spec, rotation.rows, rotation.rotary_dim, rotation.interleaved) == ({}, 24, 16, False)


@pytest.mark.slow
def test_a_table_is_held_against_the_rule_that_a_tower_states(tmp_path):
    folder = exported("lasr", tmp_path / "tower")
    (rotation,) = load_manifest(folder).rotations
    assert rotation.spec["rope_parameters"]["rope_type"] == "default"
    assert api.audit(folder).verdict == "passed"
    planted(folder, other_frequencies)
    report = api.audit(folder, ignore_hashes=True)
    assert report.verdict == "failed"
    assert {one.code for one in report.diagnoses} == {"RD900"}
