"""The audit is silent where model and configuration agree, and speaks where a difference was planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from rope_deploy.artifact import MODEL_NAME, load_manifest
from rope_deploy.errors import UsageError
from rope_deploy.export import prepare, write
from rope_deploy.export.audit_tables import audit_rotations, segments, table_error
from rope_deploy.export.prepare_model import in_float64
from rope_deploy.options import ExportOptions
from rope_deploy.rope import specs_from_config
from tests import tiny
from tests.families.prepared import prepared
from tests.sweep import swept

POSITIONS = np.arange(tiny.POSITIONS)


def found(family: str, specs) -> list[tuple[str, str]]:
    audited = audit_rotations(prepared(family).raised.rotations, specs)
    return [(finding.code, finding.severity) for one in audited for finding in one.findings]


def spec_of(family: str):
    (spec,) = prepared(family).loaded.specs.values()
    return spec


@pytest.mark.parametrize("family", swept(tiny.FAMILIES))
def test_silent_where_model_and_configuration_agree(family):
    ready = prepared(family)
    assert ready.findings == ()
    assert len(ready.audited) == (2 if family in ("gemma3", "modernbert", "modernbert_bare") else 1)
    for one in ready.audited:
        error, _ = table_error(one.rotation, one.spec)
        assert error < 2.5e-7 * max(1.0, one.spec.attention_scaling)
        assert one.spec.interleaved == (family in ("gptj", "cohere2", "glm"))


def test_each_rotation_is_audited_against_its_own_layers_rule():
    thetas = {one.layer_type: one.spec.rope_theta for one in prepared("gemma3").audited}
    assert thetas == {"sliding_attention": 10_000.0, "full_attention": 1_000_000.0}


def test_another_base():
    spec = spec_of("qwen2")
    assert found("qwen2", {"": replace(spec, rope_theta=spec.rope_theta * 2)}) == [("table-differs", "error")]


def test_a_scaling_that_was_dropped():
    config = {**prepared("llama").loaded.config}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 500_000.0}
    assert found("llama", specs_from_config(config)) == [("table-differs", "error")]


@pytest.mark.slow
def test_a_longrope_that_was_dropped():
    config = {**prepared("phi3").loaded.config}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75}
    assert found("phi3", specs_from_config(config)) == [("table-differs", "error")]


def test_two_rules_that_are_both_the_same():
    specs = prepared("gemma3").loaded.specs
    assert found("gemma3", {"full_attention": specs["full_attention"]}) == [("table-differs", "error")]


def test_a_layout_that_was_swapped():
    spec = spec_of("qwen2")
    swapped = replace(spec, interleaved=not spec.interleaved)
    assert found("qwen2", {"": swapped}) == [("layout-differs", "info")]
    (one,) = audit_rotations(prepared("qwen2").raised.rotations, {"": swapped})
    assert one.spec.interleaved == spec.interleaved, "the graph's own layout is stated, not the configuration's"


def test_a_rotation_of_another_width():
    assert ("size-differs", "warning") in found("gpt_neox", {"": replace(spec_of("gpt_neox"), rotary_dim=16)})


def test_a_table_a_little_off():
    """A base off by a millionth shows far out, as a warning: it is more than rounding and less than a mistake."""
    spec = spec_of("qwen2")
    assert found("qwen2", {"": replace(spec, rope_theta=spec.rope_theta * (1 + 1e-6))}) == [
        ("table-differs", "warning")
    ]


def test_a_table_that_is_no_number():
    (rotation, *_) = prepared("qwen2").raised.rotations
    cos = rotation.table.cos.copy()
    cos[3, 1] = np.nan
    broken = replace(rotation, table=replace(rotation.table, cos=cos))
    (one,) = audit_rotations((broken,), {"": spec_of("qwen2")})
    assert [(finding.code, finding.severity) for finding in one.findings] == [("table-differs", "error")]
    assert "by inf at position 3" in one.findings[0].message


def test_no_rule_at_all():
    assert found("qwen2", {}) == [("no-config", "info")]


def test_a_finding_reaches_manifest_and_record(tmp_path):
    ready = prepared("qwen2")
    wrong = {"": replace(spec_of("qwen2"), rope_theta=123.0)}
    planted = replace(ready, audited=tuple(audit_rotations(ready.raised.rotations, wrong)))
    record = write(planted, tmp_path / "artifact", "tables")
    (finding,) = load_manifest(tmp_path / "artifact").findings
    assert (finding.code, finding.severity) == ("table-differs", "error")
    assert record.findings == (finding.message,)
    assert "the model's are written" in finding.message


# Tables in fp64


def exact(spec, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of an ordinary rotation with more digits than fp64 has."""
    pairs = np.arange(0, spec.rotary_dim, 2, dtype=np.longdouble)
    angles = POSITIONS[:length, None] / np.longdouble(spec.rope_theta) ** (pairs / spec.rotary_dim)
    return np.cos(angles), np.sin(angles)


def ulps(table: np.ndarray, want: np.ndarray) -> float:
    """Largest error in units of the last place of fp32; 0.5 is correct rounding."""
    return float((np.abs(table.astype(np.longdouble) - want) / np.spacing(np.abs(want).astype(np.float32))).max())


def test_fp64_angles_give_correctly_rounded_tables():
    one = prepared("qwen2").audited[0]
    rounded = in_float64(one).rotation.table
    for table, want in zip((rounded.cos, rounded.sin), exact(one.spec, len(rounded.cos)), strict=True):
        assert table.dtype == np.float32
        assert ulps(table, want) < 0.5001
    assert ulps(one.rotation.table.cos, exact(one.spec, tiny.POSITIONS)[0]) > 2, "the model's own are not"


def test_fp64_angles_keep_both_tables_of_longrope():
    one = prepared("phi3").audited[0]
    rounded = in_float64(one).rotation
    assert (rounded.table.kind, rounded.table.cos.shape) == ("two-tables", one.rotation.table.cos.shape)
    assert table_error(rounded, one.spec)[0] < 1e-4
    (short, long) = segments(rounded)
    assert (short[2], long[2]) == (32, tiny.POSITIONS)
    first, second = (rounded.table.sin[start + 1] for start, *_ in (short, long))
    assert np.abs(first - second).max() > 0.05


@pytest.mark.slow
def test_fp64_angles_end_up_in_the_artifact(tmp_path):
    ready = prepare(tiny.loaded("qwen2"), ExportOptions(angles="float64"))
    assert ready.findings == ()
    write(ready, tmp_path / "artifact", "tables")
    assert load_manifest(tmp_path / "artifact").angles == "float64"
    (rotation,) = load_manifest(tmp_path / "artifact").rotations
    stored = onnx.load(tmp_path / "artifact" / MODEL_NAME).graph.initializer
    cos = next(onnx.numpy_helper.to_array(tensor) for tensor in stored if tensor.name == rotation.cos_cache)
    assert ulps(cos[:-1], exact(spec_of("qwen2"), tiny.POSITIONS)[0]) < 0.5001


def test_fp64_angles_of_a_rule_that_is_not_known_are_refused():
    ready = prepared("qwen2")
    for specs, text in (
        ({}, "no rule is stated"),
        ({"": replace(spec_of("qwen2"), rope_theta=7.0)}, "differ from"),
    ):
        (one,) = audit_rotations(ready.raised.rotations, specs)
        with pytest.raises(UsageError, match="cannot be computed in fp64") as caught:
            in_float64(one)
        assert text in caught.value.exists
        assert "--angles model" in caught.value.todo


def test_fp64_angles_of_a_rule_without_tables_are_refused():
    (one,) = prepared("qwen2").audited
    empty = replace(one.rotation.table, kind="computed", cos=one.rotation.table.cos[:0], sin=one.rotation.table.sin[:0])
    with pytest.raises(UsageError, match="change with the length"):
        in_float64(replace(one, rotation=replace(one.rotation, table=empty)))


def test_a_wider_head_that_rotates_by_the_same_rule_is_no_difference_of_rules():
    """The head of an indexer is wider than the part of it that turns; its angles are the attention's."""
    findings = found("gpt_neox", {"": replace(spec_of("gpt_neox"), head_dim=64)})
    assert findings == [("head-differs", "info")]


BY_LENGTH = {"rope_type": "dynamic", "factor": 4.0}
BOTH_BY_LENGTH = {
    "full_attention": {**BY_LENGTH, "rope_theta": 1_000_000.0},
    "sliding_attention": {**BY_LENGTH, "rope_theta": 10_000.0},
}


@pytest.mark.slow
def test_rules_without_a_table_are_distinguished_by_their_layers():
    ready = prepare(tiny.loaded("gemma3", rope_parameters=BOTH_BY_LENGTH))
    assert [one.rotation.table.kind for one in ready.audited] == ["computed", "computed"]
    assert {one.layer_type: one.spec.rope_theta for one in ready.audited} == {
        "full_attention": 1_000_000.0,
        "sliding_attention": 10_000.0,
    }


@pytest.mark.slow
def test_without_their_layers_they_cannot_be_distinguished():
    """The twin: nothing else tells one from the other."""
    ready = prepare(tiny.loaded("gemma3", rope_parameters=BOTH_BY_LENGTH))
    assert len({one.layer_type for one in audit_rotations(ready.raised.rotations, ready.loaded.specs)}) == 1
