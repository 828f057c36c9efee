"""The traced graph has the artifact's names and axes, shares the weights, and took the quick way."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from rope_deploy.errors import EnvironmentMissing, ModelError
from rope_deploy.models import load_model, trace, wrap
from tests import tiny
from tests.sweep import swept

translation = importlib.import_module("rope_deploy.models.tracing.translate")


@dataclass(frozen=True)
class Observed:
    """`decomposed`: how often torch.onnx took the program apart first."""

    weights: torch.nn.Module
    model: ir.Model
    decomposed: int


@cache
def traced(family: str, with_cache: bool = True) -> Observed:
    return observed(family, with_cache)


def observed(family: str, with_cache: bool = True) -> Observed:
    calls = []
    original = torch.export.ExportedProgram.run_decompositions

    def counted(self, *args, **kwargs):
        calls.append(self)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.export.ExportedProgram, "run_decompositions", counted)
        loaded = tiny.loaded(family)
        return Observed(loaded.model, trace(loaded, cache=with_cache).model, len(calls))


def described(values) -> dict[str, list[int | str]]:
    return {v.name: [dim if isinstance(dim, int) else str(dim.value) for dim in v.shape] for v in values}


def test_a_decoder_has_the_names_and_axes_of_the_artifact():
    model = traced("llama").model
    past, present = ["batch", 2, "past", 16], ["batch", 2, "total", 16]
    layers = [f"{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
    assert described(model.graph.inputs) == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "total"],
        "position_ids": ["batch", "sequence"],
        **{f"past_key_values.{name}": past for name in layers},
    }
    assert described(model.graph.outputs) == {
        "logits": ["batch", "sequence", tiny.VOCAB],
        **{f"present.{name}": present for name in layers},
    }


@pytest.mark.slow
def test_without_a_cache_past_and_present_are_absent():
    model = traced("llama", False).model
    assert list(described(model.graph.inputs)) == ["input_ids", "attention_mask", "position_ids"]
    assert described(model.graph.inputs)["attention_mask"] == ["batch", "sequence"]
    assert list(described(model.graph.outputs)) == ["logits"]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "result"), [("modernbert", "logits"), ("modernbert_bare", "last_hidden_state")])
def test_an_encoder_answers_with_logits_or_its_last_state(family, result):
    model = traced(family).model
    assert list(described(model.graph.outputs)) == [result]


def test_weights_are_shared_with_the_model_not_copied():
    found = traced("llama")
    addresses = {parameter.data_ptr() for parameter in found.weights.parameters()}
    large = [v.const_value for v in found.model.graph.initializers.values() if v.const_value.nbytes >= 4096]
    assert len(large) >= 14
    assert all(tensor.numpy().__array_interface__["data"][0] in addresses for tensor in large)


def test_one_attention_a_layer_and_its_heads_stay_grouped():
    model = traced("llama").model
    attention = [node for node in model.graph if node.op_type == "Attention"]
    assert [int(node.inputs[1].shape[1]) for node in attention] == [2, 2]
    assert all(len(node.inputs) == 4 for node in attention)


@pytest.mark.parametrize("family", swept(["llama", "gptj", "phi3", "modernbert"], ["llama"]))
def test_the_program_is_not_traced_a_second_time(family):
    """Decomposing is half the time of an export; these families need none."""
    assert traced(family).decomposed == 0


@pytest.mark.slow
def test_a_spelling_without_a_translation_would_be_noticed(monkeypatch):
    monkeypatch.setattr(translation, "_rewrite", lambda program: None)
    assert observed("llama").decomposed == 1


class Overwrites(nn.Module):
    """Reads a buffer, overwrites it, reads it again: no copy may be skipped here."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.tensor([1.0, 2.0]))

    def forward(self, x):
        before = self.kept * 1.0
        self.kept.copy_(x)
        return before + 10 * self.kept


def test_a_buffer_that_was_read_before_it_is_overwritten_keeps_its_meaning():
    program = torch.export.export(Overwrites(), (torch.tensor([3.0, 4.0]),), strict=False)
    model = translation.translate(program)
    session = _session(model)
    (out, *_) = session.run(None, {session.get_inputs()[0].name: np.array([5.0, 6.0], np.float32)})
    assert out.tolist() == [51.0, 62.0]


def _session(model: ir.Model):
    import onnxruntime

    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())


class Chooses(nn.Module):
    """Weighs tokens by the 16 largest scores, or all where there are fewer: of an indexer for sparse attention."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 4)

    def forward(self, input_ids, attention_mask, position_ids):
        x = self.embed(input_ids)
        scores = x.sum(-1)
        best = scores.topk(min(16, scores.shape[1]), dim=1).values
        return x * best.sum(dim=1)[:, None, None]


def test_a_least_of_a_number_and_the_length_is_traced_for_every_length():
    module = Chooses()
    session = _session(trace(wrap(module, {}, source="chooses")).model)
    for length in (3, 16, 40):
        ids = torch.arange(2 * length).reshape(2, length) % 8
        ones = np.ones((2, length), np.int64)
        feeds = {"input_ids": ids.numpy(), "attention_mask": ones, "position_ids": ones}
        (out, *_) = session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})
        np.testing.assert_allclose(out, module(ids, None, None).detach().numpy(), atol=1e-5)


# What cannot be traced


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 4)

    def forward(self, input_ids, attention_mask, position_ids):
        if input_ids.sum() > 3:
            return self.embed(input_ids)
        return -self.embed(input_ids)


def test_control_flow_on_data_is_refused_with_the_reason():
    with pytest.raises(ModelError, match="PyTorch cannot export branches") as caught:
        trace(wrap(Branches(), {}, source="branches"))
    assert caught.value.asked.endswith("control flow that depends on data.")
    assert "if input_ids.sum() > 3:" in caught.value.exists and "test_trace.py" in caught.value.exists
    assert "torch.where" in caught.value.todo


class Stumbles(Branches):
    def forward(self, input_ids, attention_mask, position_ids):
        return {"x": self.embed(input_ids)}["no such key"]


class Assumes(Branches):
    def forward(self, input_ids, attention_mask, position_ids):
        return self.embed(input_ids).view(2, 3, 4)


@pytest.mark.parametrize(
    ("module", "said", "line"),
    [(Stumbles, "fails with KeyError", "no such key"), (Assumes, "only some sizes of an axis (batch, sequence)", "")],
)
def test_other_obstacles_are_not_called_control_flow(module, said, line):
    with pytest.raises(ModelError, match="PyTorch cannot export") as caught:
        trace(wrap(module(), {}, source="stumbles"))
    assert said in caught.value.asked and line in caught.value.exists
    assert "control flow" not in str(caught.value)


def test_a_decoder_whose_code_fails_is_not_said_to_have_a_strange_cache(monkeypatch):
    loaded = tiny.loaded("llama")
    content = torch.ones(8, device="meta")  # as transformers leaves what it does not find: in a closure, in an object
    for fails, said in ((lambda x, position_ids: {}["no such key"], "fails with KeyError when it is called"),
                        (lambda x, position_ids: x[..., :8] * content, "a tensor that has no content")):  # fmt: skip
        monkeypatch.setattr(loaded.model.model.rotary_emb, "forward", fails)
        with pytest.raises(ModelError, match="cannot be called") as caught:
            trace(loaded)
        assert said in caught.value.asked and "test_trace.py" in caught.value.exists
        with pytest.raises(ModelError, match="PyTorch cannot export") as without:
            trace(loaded, cache=False)
        assert said.removesuffix("called") in without.value.asked


class Needy(Branches):
    def forward(self, input_ids, attention_mask, position_ids):
        import absent_package  # noqa: F401


def test_a_package_that_a_forward_imports_is_named():
    with pytest.raises(EnvironmentMissing, match="needs a package") as caught:
        trace(wrap(Needy(), {}, source="needy"))
    assert caught.value.todo == "Run `pip install absent_package`."


def test_a_tower_without_a_configuration_needs_an_example():
    with pytest.raises(ModelError, match="What Pixels is to be fed does not follow") as caught:
        trace(load_model("tests.models.plain:pixels"))
    assert caught.value.exists == "It has no configuration.\nIts forward takes: pixel_values."
    assert "--example" in caught.value.todo
