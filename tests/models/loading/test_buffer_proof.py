"""What a model computes for itself is proved when it is loaded, put right where that is sure, and refused where not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rope_deploy.errors import ModelError
from rope_deploy.models import load_model
from rope_deploy.models.patches.unwritten_memory import nan_in_unwritten_memory
from tests import tiny
from tests.models import own_code
from tests.models.own_code import BUFFER

IDS = torch.arange(3, 20)[None]


pytestmark = pytest.mark.usefixtures("code_cache")


def loaded(folder: Path, **options):
    return load_model(str(folder), trust_remote_code=True, **options)


RIGHT = {
    "buffer": (BUFFER, "self.inv_freq", "rotary.inv_freq"),
    "attribute": ("self.inv_freq = frequencies(dim, base)", "self.inv_freq", "rotary.inv_freq"),
    "list": ("self.kept = [1, frequencies(dim, base)]", "self.kept[1]", "rotary.kept[1]"),
    "dictionary": ("self.kept = {'a': (frequencies(dim, base),)}", "self.kept['a'][0]", "rotary.kept['a'][0]"),
    "integers": (
        'self.dim, self.base = dim, base\nself.register_buffer("steps", torch.arange(0, dim, 2), persistent=False)',
        "(1.0 / self.base ** (self.steps.float() / self.dim))",
        "rotary.steps",
    ),
    "mask": (
        f'{BUFFER}\nself.register_buffer("used", torch.tensor([True, False, True, True]), persistent=False)',
        "(self.inv_freq * self.used)",
        "rotary.used",
    ),
    "complex": (
        "angles = frequencies(dim, base)\n"
        'self.register_buffer("cis", torch.polar(torch.ones_like(angles), angles), persistent=False)',
        "self.cis.angle()",
        "rotary.cis",
    ),
    "table": (
        'self.register_buffer("table", frequencies(dim, base)[None].repeat(3, 1), persistent=False)',
        "self.table[2]",
        "rotary.table",
    ),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_what_loading_leaves_unwritten_is_computed_again(tmp_path, kind):
    init, inv_freq, name = RIGHT[kind]
    folder = own_code.write(tmp_path / "model", kind, init, inv_freq)
    model = loaded(folder)
    with torch.no_grad():
        assert torch.equal(model.model(IDS).logits, own_code.made(folder, kind)(IDS).logits)
    assert name in model.findings[0].message and "computed again" in model.findings[0].message


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_frequencies_stay_exact_in_half_types(tmp_path, dtype):
    folder = own_code.write(tmp_path / "model", f"half_{dtype}")
    found = loaded(folder, dtype=dtype).model
    assert found.lm_head.weight.dtype == getattr(torch, dtype)
    assert torch.equal(found.rotary.inv_freq, own_code.made(folder, f"half_{dtype}").rotary.inv_freq)


def test_a_buffer_that_should_have_been_in_the_checkpoint_and_may_be_missing(tmp_path):
    body = '_keys_to_ignore_on_load_missing = ["inv_freq"]'
    init = 'self.register_buffer("inv_freq", frequencies(dim, base))'
    folder = own_code.write(tmp_path / "model", "ignored", init, body=body)
    model = loaded(folder)
    assert torch.equal(model.model.rotary.inv_freq, own_code.made(folder, "ignored").rotary.inv_freq)
    assert "rotary.inv_freq" in model.findings[0].message


def test_code_that_computes_them_itself_is_left_alone(tmp_path):
    body = (
        "def _init_weights(self, module):\n"
        "    if isinstance(module, Rotary):\n"
        "        module.inv_freq.copy_(frequencies(8, self.config.rope_theta))"
    )
    codes = [one.code for one in loaded(own_code.write(tmp_path / "model", "careful", body=body)).findings]
    assert codes == ["no-tokenizer"]


WRONG = {
    "random": ('self.register_buffer("inv_freq", torch.rand(dim // 2), persistent=False)', "twice alike"),
    "never_written": ('self.register_buffer("inv_freq", torch.empty(dim // 2), persistent=False)', "twice alike"),
    "half_written": (
        'kept = torch.empty(dim // 2)\nkept[0] = 1\nself.register_buffer("inv_freq", kept, persistent=False)',
        "twice alike",
    ),
    "counted": (
        'Rotary.made += 1\nself.register_buffer("inv_freq", frequencies(dim, base + Rotary.made), persistent=False)',
        "twice alike",
    ),
    "kept_by_the_class": (
        "Rotary.shared = getattr(Rotary, 'shared', None)\n"
        "if Rotary.shared is None: Rotary.shared = frequencies(dim, base)\n"
        "self.inv_freq = Rotary.shared",
        "twice alike",
    ),
    "of_a_weight": (
        "self.scale = nn.Linear(dim // 2, 1, bias=False)\n"
        'self.register_buffer("inv_freq", self.scale.weight[0].detach(), persistent=False)',
        "",
    ),
    "different_on_meta": (
        "base = base if torch.empty(0).is_meta else 2 * base\n"
        'self.register_buffer("inv_freq", torch.arange(4, device="cpu") / base, persistent=False)\n'
        "self.later = torch.arange(4, device='cpu') / base",
        "rotary.later",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_proved_is_refused_by_name(tmp_path, kind):
    init, said = WRONG[kind]
    folder = own_code.write(tmp_path / "model", kind, init)
    with pytest.raises(ModelError) as caught:
        loaded(folder)
    assert caught.value.exit_code == 2
    assert "rotary." in caught.value.asked and said in caught.value.asked


def test_a_weight_that_nothing_was_written_to(tmp_path):
    body = '_keys_to_ignore_on_load_missing = ["extra"]\ndef _init_weights(self, module):\n    pass'
    folder = own_code.write(
        tmp_path / "model", "extra", f"{BUFFER}\nself.extra = nn.Parameter(torch.ones(4))", body=body
    )
    with pytest.raises(ModelError, match=r"rotary\.extra"):
        loaded(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "phi3", "gemma3", "gptj", "modernbert"])
def test_models_of_transformers_are_proved_as_they_are(tmp_path, family, dtype):
    tiny.save_family(family, tmp_path / "model")
    assert load_model(str(tmp_path / "model"), dtype=str(dtype).removeprefix("torch.")).findings == ()


def test_a_buffer_that_transformers_itself_forgot_is_found(tmp_path, monkeypatch):
    """The planted fault is in transformers: nothing is computed again after loading."""
    tiny.save_family("llama", tmp_path / "model")
    right = load_model(str(tmp_path / "model")).model.model.rotary_emb.inv_freq
    monkeypatch.setattr("transformers.PreTrainedModel._initialize_missing_keys", lambda *_, **__: None)
    model = load_model(str(tmp_path / "model"))
    assert "model.rotary_emb.inv_freq" in model.findings[0].message
    assert torch.equal(model.model.model.rotary_emb.inv_freq, right)


# Factories


class Forgetful(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(8, 4)
        self.register_buffer("inv_freq", torch.empty(2), persistent=False)

    def forward(self, input_ids):
        return self.embed(input_ids)


class OnMeta(Forgetful):
    def __init__(self):
        super().__init__()
        self.inv_freq = torch.ones(2)
        self.table = torch.ones(2, device="meta")


@pytest.mark.parametrize(("factory", "said"), [("Forgetful", "inv_freq"), ("OnMeta", "table")])
def test_a_factory_that_leaves_memory_unwritten(factory, said):
    with pytest.raises(ModelError, match="nothing was written to it") as caught:
        load_model(f"tests.models.loading.test_buffer_proof:{factory}")
    assert said in caught.value.asked


def test_pytorch_is_left_as_it_was():
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    with nan_in_unwritten_memory():
        assert torch.empty(3).isnan().all()
    assert before == (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
