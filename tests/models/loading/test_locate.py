"""Sources that are no safe, whole model: each refused with what is there and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as hf

from rope_deploy.errors import EnvironmentMissing, ModelError, RopeDeployError, UsageError
from rope_deploy.models import load_model
from rope_deploy.models.loading import pretrained
from tests import tiny


def edit(folder: Path, **settings) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def refusal(source: Path | str, **options) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_model(str(source), **options)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "~/nothing", "a/b/c"])
def test_a_folder_that_is_not_there(source):
    error = refusal(source)
    assert (error.asked, error.exists) == (f"{source} is no model folder.", "There is no such folder.")
    assert "package.module:factory" in error.todo


def test_nothing_named():
    assert refusal(" ").asked == "No model was named."


def test_a_file_of_an_unknown_kind(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"?")
    assert refusal(tmp_path / "model.bin").exists == "It is a file of an unknown kind."


def test_a_gguf_file_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "model.gguf").asked == f"There is no file {tmp_path}/model.gguf."


def test_a_hub_name_without_a_connection():
    error = refusal("owner/name-of-no-model")
    assert error.asked.startswith("owner/name-of-no-model cannot be loaded: there is no such folder")
    assert "local folder" in error.todo


def test_a_folder_without_a_configuration(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    error = refusal(tmp_path)
    assert error.asked == f"{tmp_path} is no model folder: it has no config.json."
    assert error.exists == "It holds: notes.txt."


@pytest.mark.parametrize("content", [b"{not json", b"", b"\xff\xfe\x00"])
def test_a_configuration_that_is_not_json(copied, content):
    (copied / "config.json").write_bytes(content)
    assert refusal(copied).asked.startswith(f"{copied}/config.json is not JSON: ")


def test_a_configuration_that_is_no_object(copied):
    (copied / "config.json").write_text("[1]")
    assert refusal(copied).asked == f"{copied}/config.json holds a list, not the settings of a model."


def test_a_model_type_that_transformers_does_not_know(copied):
    error = refusal(edit(copied, model_type="brandnew"))
    assert error.asked.endswith("does not know its model type.") and "model type `brandnew`" in error.exists


def test_a_folder_without_weights(copied):
    (copied / "model.safetensors").unlink()
    error = refusal(copied)
    assert error.asked == f"{copied} has no safetensors weights."
    assert "pickle" not in str(error)


def test_a_pickle_is_never_opened(copied):
    (copied / "model.safetensors").unlink()
    torch.save({"weight": Tripwire()}, copied / "pytorch_model.bin")
    error = refusal(copied)
    assert error.exists.startswith("It has pytorch_model.bin: pickle files can run code")
    assert not Tripwire.opened
    torch.load(copied / "pytorch_model.bin", weights_only=False)
    assert Tripwire.opened  # the twin: opening it would have been noticed


class Tripwire:
    opened = False

    def __reduce__(self):
        return trip, ()


def trip():
    Tripwire.opened = True


@pytest.mark.parametrize("kept", [0, 5, 1_000, 150_000, -1])
def test_truncated_safetensors(copied, kept):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    error = refusal(copied)
    assert error.asked == f"{copied} cannot be loaded: a file of it cannot be read."
    assert error.exists.startswith("transformers says: SafetensorError: ")
    assert "damaged or incomplete" in error.todo


def test_a_missing_part_of_several(tmp_path):
    tiny.build("llama").save_pretrained(tmp_path / "model", max_shard_size="100KB")
    parts = sorted((tmp_path / "model").glob("*.safetensors"))
    assert len(parts) > 1
    load_model(str(tmp_path / "model"))
    parts[-1].unlink()
    assert parts[-1].name in refusal(tmp_path / "model").asked


def test_weights_that_lack_a_layer_are_not_made_up(copied):
    error = refusal(edit(copied, num_hidden_layers=3))
    assert error.asked.endswith("model.layers.2.mlp.gate_proj.weight …).")
    assert "9 are missing" in error.asked


def test_weights_of_another_size(copied):
    assert "6 have another size (model.layers.0.mlp" in refusal(edit(copied, intermediate_size=32)).asked


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (
            hf.GPT2LMHeadModel,
            hf.GPT2Config(n_embd=64, n_layer=1, n_head=4, vocab_size=96, bos_token_id=1, eos_token_id=2),
        ),
        (
            hf.BertForMaskedLM,
            hf.BertConfig(
                hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, vocab_size=96
            ),
        ),
    ],
    ids=["gpt2", "bert"],
)
def test_a_model_without_rotation(tmp_path, model, config):
    tiny.fresh(model, config).save_pretrained(tmp_path / "model")
    error = refusal(tmp_path / "model")
    assert error.asked.startswith(f"A {config.model_type} model has no rotary position embedding: ")


def test_an_unknown_rope_type(copied):
    edit(copied, rope_parameters={"rope_type": "spiral", "rope_theta": 1e4})
    with pytest.raises(UsageError, match="The rope type 'spiral' is not known") as caught:
        load_model(str(copied))
    assert "longrope" in caught.value.exists


# Code that comes with a model

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own_llama"
class Own(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(copied, code_cache) -> Path:
    (copied / "own.py").write_text(CODE)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    return edit(copied, model_type="own_llama", architectures=["Own"], auto_map=auto_map)


def test_code_that_comes_with_a_model_is_refused_unless_trusted(own_code):
    error = refusal(own_code)
    assert error.asked == f"{own_code} brings its own Python code (auto_map in config.json)."
    assert error.todo == "Give --trust-remote-code if you do."


def test_code_beside_a_known_model_type_is_refused_too(copied):
    error = refusal(edit(copied, auto_map={"AutoModelForCausalLM": "own.Own"}))
    assert "brings its own Python code" in error.asked


def test_trusted_code_is_used(own_code):
    loaded = load_model(str(own_code), trust_remote_code=True)
    assert (type(loaded.model).__name__, loaded.task) == ("Own", "decoder")
    assert loaded.specs[""].scaling.rope_type == "llama3"


def test_a_tokenizer_never_asks_whether_to_trust_it(copied, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    path = copied / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.update(auto_map={"AutoTokenizer": ["own.Slow", "own.Fast"]}, tokenizer_class="Own")
    path.write_text(json.dumps(settings))
    load_model(str(copied))


# What is missing in the environment


@pytest.mark.parametrize(
    ("said", "exists", "todo"),
    [
        (
            "Own requires the timm library but it was not found in your environment. You can install it with pip:\n"
            "`pip install timm`. Please note that you may need to restart your runtime after installation.",
            "Own requires the timm library but it was not found in your environment.",
            "Run `pip install timm`.",
        ),
        (
            "Use `pip install a` or\n`pip install b`",
            "Use `pip install a` or `pip install b`",
            "Run `pip install a` or ",
        ),
        ("It cannot be had.", "It cannot be had.", ""),
    ],
)
def test_a_package_that_a_model_needs_is_named_with_the_command_that_brings_it(copied, monkeypatch, said, exists, todo):
    def needs(*_, **__):
        raise ImportError(said)

    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", needs)
    with pytest.raises(EnvironmentMissing, match="needs a package that is not installed") as caught:
        load_model(str(copied))
    assert caught.value.exit_code == 3
    assert caught.value.exists == f"The import says: {exists}"
    assert caught.value.todo.startswith(todo) and bool(todo) == bool(caught.value.todo)


def test_a_module_that_a_model_s_own_code_imports_is_named(copied, monkeypatch):
    def imports(*_, **__):
        import no_such_package_of_ours.part  # noqa: F401

    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", imports)
    with pytest.raises(EnvironmentMissing) as caught:
        load_model(str(copied))
    assert caught.value.todo == "Run `pip install no_such_package_of_ours`."


def test_a_model_type_of_the_future_asks_for_a_newer_transformers(copied):
    error = refusal(edit(copied, model_type="brandnew", architectures=["BrandNewForCausalLM"]))
    assert "pip install -U transformers" in error.todo


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"hidden_act": "\x1b[31mnope"}, "stopped at it"),
        ({"dtype": "\x1b[31mfloat99"}, "stopped at it"),
        ({"model_type": "\x1b]0;title\x07unheard", "x": "y" * 5_000}, "does not know its model type"),
        ({"hidden_size": "\x1b[31mmany"}, "does not take this configuration"),
        ({"model_type": "exaone4", "sliding_window_pattern": "LG", "sliding_window": 16}, "sliding_window_pattern is"),
        ({"layer_types": ["\x1b[31mweird"] * 300}, "does not take this configuration"),
    ],
)
def test_what_transformers_says_is_quoted_under_a_sentence_of_ours(copied, changes, ours):
    with pytest.raises(RopeDeployError) as caught:
        load_model(str(edit(copied, **changes)))
    first, *others = str(caught.value).splitlines()
    assert ours in str(caught.value) and "says:" not in first and caught.value.todo
    (quote,) = [line for line in others if line.startswith("transformers says: ")]
    assert "\x1b" not in str(caught.value) and len(quote) < 350
