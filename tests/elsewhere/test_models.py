"""Faults reported elsewhere that need a model to be shown: tiny random ones."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from rope_deploy.artifact import MODEL_NAME, load_manifest
from rope_deploy.export import write
from rope_deploy.export.audit_tables import audit_rotations
from rope_deploy.models import run_reference
from rope_deploy.parity.cases import cases_for
from rope_deploy.rope import specs_from_config
from tests import tiny
from tests.families.prepared import prepared


def run(loaded, tokens: int, begin: int, past: dict[str, np.ndarray]):
    total = begin + tokens
    ids = (np.arange(begin, total) * 7 % 90 + 3)[None]
    feeds = {
        "input_ids": ids,
        "attention_mask": np.ones((1, total), np.int64),
        "position_ids": np.arange(begin, total)[None],
        **past,
    }
    return run_reference(loaded, feeds)


@pytest.mark.slow
def test_keys_in_the_cache_keep_their_rotation_when_longrope_switches(tmp_path):
    """Recomputing them is another model than PyTorch's; what a check compares is what PyTorch does."""
    loaded = prepared("phi3").loaded
    spec = next(iter(loaded.specs.values()))
    turn = spec.original_max_position
    names = [
        (f"past_key_values.{n}.{kind}", f"present.{n}.{kind}")
        for n in range(loaded.layers)
        for kind in ("key", "value")
    ]
    write(prepared("phi3"), tmp_path / "artifact", "tables")
    manifest = load_manifest(tmp_path / "artifact")
    empty = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in manifest.inputs if "past" in i.name}
    before = run(loaded, turn, 0, empty)
    after = run(loaded, 2, turn, {past: before[present] for past, present in names})
    assert np.array_equal(after["present.0.key"][:, :, :turn], before["present.0.key"])
    anew = run(loaded, turn + 2, 0, empty)
    assert not np.allclose(anew["present.0.key"][:, :, 1:turn], before["present.0.key"][:, :, 1:], atol=1e-3)
    assert f"decode-across-{turn}" in {case.id for case in cases_for(manifest)}


@pytest.mark.slow
def test_rope_parameters_set_after_loading_change_nothing_and_the_export_says_so():
    loaded = tiny.loaded("smollm2")
    raised = prepared("smollm2").raised
    changed = {**loaded.config, "rope_parameters": {"rope_type": "linear", "rope_theta": 100_000.0, "factor": 8.0}}
    assert [f.code for one in audit_rotations(raised.rotations, loaded.specs) for f in one.findings] == []
    found = [f.code for one in audit_rotations(raised.rotations, specs_from_config(changed)) for f in one.findings]
    assert found == ["table-differs"]
    module = loaded.model
    ids = np.arange(3, 20)[None]
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(17)[None] * 5}
    before = run_reference(loaded, feeds)["logits"]
    module.config.rope_parameters = changed["rope_parameters"]
    assert np.array_equal(run_reference(loaded, feeds)["logits"], before)


def test_rotations_are_written_without_control_flow_or_shapes_made_at_run_time(tmp_path):
    """What TensorRT's parser stumbles over in 2-D rotations: If, Loop, Range and Tile around the table."""
    for style in ("tables", "onnx"):
        write(prepared("smollm2"), tmp_path / style, style)
        graph = onnx.load(tmp_path / style / MODEL_NAME, load_external_data=False).graph
        kinds = {node.op_type for node in graph.node}
        assert not kinds & {"If", "Loop", "Tile", "Cos", "Sin"}, style


def test_a_width_that_the_sections_exceed_is_a_fault_of_the_configuration():
    spec = replace(prepared("smollm2").loaded.specs[""], mrope_section=(2, 3, 3))
    assert spec.positions == "M-RoPE"
