"""A model that takes no positions counts its tokens from where its past ends; its graph does, and its table is seen."""

from dataclasses import replace

import numpy as np
import pytest
import transformers as hf

from rope_deploy import api
from rope_deploy.errors import UnmatchedRotation
from rope_deploy.export import prepare
from rope_deploy.export.audit_tables import audit_rotations
from rope_deploy.models import run_reference, wrap
from rope_deploy.options import ExportOptions
from rope_deploy.rope import tables
from rope_deploy.runtimes import open_ort
from tests import tiny

SIZES = {key: value for key, value in tiny.LLAMA.items() if key != "num_key_value_heads"}
ROFORMER = {**SIZES, "embedding_size": 64, "is_decoder": True, "rotary_value": False, "type_vocab_size": 2}


def roformer():
    model = hf.RoFormerForCausalLM(hf.RoFormerConfig(**ROFORMER)).eval()
    return model, wrap(model, tiny.plain_config(model), source="roformer")


@pytest.mark.slow
def test_its_table_is_its_rule_with_angles_in_fp64():
    _, loaded = roformer()
    ready = prepare(loaded)
    (one,) = ready.audited
    assert len(ready.raised.markers()) == 4
    assert (ready.angles, one.angles, one.findings) == ("float64", "float64", ())
    exact, _ = tables(one.spec, tiny.POSITIONS, angles="float64")
    np.testing.assert_allclose(one.rotation.table.cos, exact, atol=1e-7)
    rounded, _ = tables(one.spec, tiny.POSITIONS)
    assert np.abs(one.rotation.table.cos - rounded).max() > 1e-6
    (other,) = audit_rotations(ready.raised.rotations, {"": with_another_base(one.spec)})
    assert other.angles == "model"
    assert [finding.code for finding in other.findings] == ["table-differs"]


def with_another_base(spec):
    return replace(spec, rope_theta=spec.rope_theta * 1.001)


@pytest.mark.slow
def test_a_graph_goes_on_where_its_past_ends(tmp_path):
    _, loaded = roformer()
    api.export(loaded, tmp_path / "out", styles=("tables",))
    tokens = np.arange(5, 16).reshape(1, 11)
    whole = run_reference(loaded, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})["logits"]
    with open_ort(tmp_path / "out", threads=1) as runtime:
        empty = {name: np.zeros((1, 4, 0, 16), np.float32) for name in pasts(loaded)}
        first = runtime.run({"input_ids": tokens[:, :7], "attention_mask": np.ones((1, 7), np.int64), **empty})
        kept = {name: first[name.replace("past_key_values", "present")] for name in empty}
        later = {"input_ids": tokens[:, 7:], "attention_mask": np.ones((1, 11), np.int64)}
        assert np.abs(runtime.run({**later, **kept})["logits"] - whole[:, 7:]).max() < 1e-4
        again = {**later, "attention_mask": np.ones((1, 4), np.int64)}  # the twin: the same tokens at the beginning
        assert np.abs(runtime.run({**again, **empty})["logits"] - whole[:, 7:]).max() > 1e-3


def pasts(loaded) -> list[str]:
    return [f"past_key_values.{layer}.{part}" for layer in range(loaded.layers) for part in ("key", "value")]


@pytest.mark.slow
def test_a_model_that_forgets_its_past_is_refused(monkeypatch):
    model, loaded = roformer()
    positions = model.roformer.encoder.embed_positions
    forward = positions.forward
    monkeypatch.setattr(positions, "forward", lambda shape, past=0, position_ids=None: forward(shape, 0))
    with pytest.raises(UnmatchedRotation, match="from where its past ends"):
        prepare(loaded)
    assert len(prepare(loaded, ExportOptions(cache=False)).raised.markers()) == 4
