"""Models from folders, GGUF files and factories: the right class, weights, rule and type arrive."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from transformers import LlamaForCausalLM, ModernBertForMaskedLM, ModernBertModel

from rope_deploy.errors import EnvironmentMissing, ModelError, UsageError
from rope_deploy.models import load_model, patched, read_config
from tests import tiny
from tests.models.gguf_file import write_gguf

IDS = torch.arange(3, 12)[None]
PLAIN_RULE = {"rope_type": "default", "rope_theta": 12_345.0}


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS))[0]


def test_a_folder_gives_model_configuration_rule_and_tokenizer(llama):
    loaded = load_model(str(llama))
    assert isinstance(loaded.model, LlamaForCausalLM)
    assert (loaded.task, loaded.model_type, loaded.dtype, loaded.layers) == ("decoder", "llama", "float32", 2)
    assert loaded.vocab_size == tiny.VOCAB
    assert loaded.specs[""].scaling.rope_type == "llama3"
    assert loaded.tokenizer("ab").input_ids == [tiny.CHARACTERS.index(c) + 3 for c in "ab"]
    assert torch.allclose(logits(loaded.model), logits(tiny.build("llama")), atol=1e-5)
    assert not torch.allclose(logits(loaded.model), logits(tiny.build("llama", seed=1)), atol=0.1)


def test_a_model_without_a_tokenizer_is_still_a_model(tmp_path):
    folder = tiny.save(tiny.build("qwen2"), tmp_path / "model", with_tokenizer=False)
    assert load_model(str(folder)).tokenizer is None


def test_the_configuration_names_no_place_of_this_machine(llama):
    loaded = load_model(str(llama))
    assert loaded.source == str(llama)
    assert str(llama.parent) not in json.dumps(loaded.config)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_hold_the_weights_but_not_the_frequencies(llama, dtype):
    for source in (str(llama), "tests.models.plain:llama"):
        loaded = load_model(source, dtype=dtype)
        assert {str(p.dtype) for p in loaded.model.parameters()} == {f"torch.{dtype}"}
        rotary = loaded.model.model.rotary_emb
        assert rotary.inv_freq.dtype == torch.float32
        assert torch.equal(rotary.inv_freq, torch.from_numpy(loaded.specs[""].inv_freq()))


def test_a_rule_that_the_configuration_states_reaches_the_model(copied):
    settings = json.loads((copied / "config.json").read_text())
    settings["rope_parameters"] = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
    (copied / "config.json").write_text(json.dumps(settings))
    loaded = load_model(str(copied))
    assert loaded.specs[""].scaling.rope_type == "linear"
    assert torch.equal(loaded.model.model.rotary_emb.inv_freq, torch.from_numpy(loaded.specs[""].inv_freq()))


def test_an_encoder_is_no_decoder(tmp_path):
    masked = load_model(str(tiny.save_family("modernbert", tmp_path / "masked")))
    bare = load_model(str(tiny.save_family("modernbert_bare", tmp_path / "bare")))
    assert isinstance(masked.model, ModernBertForMaskedLM)
    assert isinstance(bare.model, ModernBertModel)
    assert masked.task == bare.task == "encoder"
    assert masked.counts_positions
    assert set(masked.specs) == {"full_attention", "sliding_attention"}


def test_without_architectures_the_type_decides(copied):
    settings = json.loads((copied / "config.json").read_text())
    del settings["architectures"]
    (copied / "config.json").write_text(json.dumps(settings))
    assert isinstance(load_model(str(copied)).model, LlamaForCausalLM)


def test_only_the_configuration_is_read_when_only_it_is_asked_for(copied):
    (copied / "model.safetensors").write_bytes(b"not read")
    assert read_config(str(copied))["model_type"] == "llama"
    with pytest.raises(ModelError):
        load_model(str(copied))


def test_an_unknown_dtype_is_refused_before_anything_is_read():
    with pytest.raises(UsageError, match="Unknown dtype 'float8'") as caught:
        load_model("/nowhere", dtype="float8")
    assert "bfloat16" in caught.value.exists


# GGUF


def test_a_gguf_file_gives_the_model_it_was_made_from(tmp_path):
    model = tiny.build("llama", rope_parameters=PLAIN_RULE)
    loaded = load_model(str(write_gguf(model, tmp_path / "model.gguf")))
    assert torch.allclose(logits(loaded.model), logits(model), atol=1e-5)
    assert loaded.specs[""].rope_theta == 12_345.0
    assert loaded.tokenizer("ab").input_ids == [tiny.VOCAB - 1]
    other = tiny.build("llama", rope_parameters=PLAIN_RULE, seed=1)
    assert not torch.allclose(logits(loaded.model), logits(other), atol=0.1)


@pytest.mark.parametrize("kept", [10, 1_000, 150_000, -8])
def test_a_truncated_gguf_file_is_refused(tmp_path, kept):
    path = write_gguf(tiny.build("llama", rope_parameters=PLAIN_RULE), tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cannot be loaded|Cannot load") as caught:
        load_model(str(path))
    assert "damaged or incomplete" in caught.value.todo


@pytest.mark.parametrize(("content", "said"), [(b"", "It is empty"), (b"PK\x03\x04 a zip", "b'PK")])
def test_what_is_no_gguf_file_is_refused(tmp_path, content, said):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ModelError, match="is not a GGUF file") as caught:
        load_model(str(tmp_path / "model.gguf"))
    assert said in caught.value.exists


# Factories


def test_a_factory_may_return_a_model_of_transformers():
    loaded = load_model("tests.models.plain:llama")
    assert loaded.task == "decoder"
    assert loaded.specs[""].scaling.rope_type == "llama3"
    assert read_config("tests.models.plain:llama")["model_type"] == "llama"


def test_a_factory_may_return_a_plain_module():
    loaded = load_model("tests.models.plain:plain")
    assert (loaded.task, loaded.specs, loaded.model_type) == ("encoder", {}, "Plain")
    assert not loaded.counts_positions
    assert load_model("tests.models.plain:plain_with_config").specs[""].rotary_dim == 8


def test_a_module_around_one_model_of_transformers_has_its_configuration_and_our_attention():
    loaded = load_model("tests.models.plain:around")
    assert loaded.model_type == "llama"
    with patched(loaded.model, "run"):
        assert loaded.model.inner.config._attn_implementation == "rope_deploy"
    assert loaded.model.inner.config._attn_implementation != "rope_deploy"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no.such.module:thing", "No module named 'no'"),
        ("tests.models.plain:thing", "no attribute 'thing'"),
        ("tests.models.plain:number", "returned int, not a torch.nn.Module"),
        ("tests.models.plain:fails", "RuntimeError: no weights today"),
        ("tests.models.plain:takes_arguments", "called without arguments"),
        (":thing", "Empty module name"),
    ],
)
def test_a_factory_that_gives_no_module_is_refused(source, said):
    with pytest.raises(ModelError) as caught:
        load_model(source)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["import absent.part\ndef make(): ...", "def make():\n    import absent.part"])
def test_a_package_that_a_factory_imports_is_named(tmp_path, monkeypatch, text):
    (tmp_path / "needy.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "needy", raising=False)
    with pytest.raises(EnvironmentMissing, match="needs a package") as caught:
        load_model("needy:make")
    assert caught.value.todo == "Run `pip install absent`."


def test_a_factory_in_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "own_model_here.py").write_text("from tests.models.plain import plain as make")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load_model("own_model_here:make").model_type == "Plain"
    assert sys.path == before


def test_a_missing_tokenizer_is_a_finding(tmp_path):
    with_one, without = (tiny.save(tiny.build("llama"), tmp_path / str(n), with_tokenizer=n == 0) for n in (0, 1))
    assert load_model(str(with_one)).findings == ()
    (finding,) = load_model(str(without)).findings
    assert (finding.code, finding.severity) == ("no-tokenizer", "info")
