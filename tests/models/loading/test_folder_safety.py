"""Names in the files of a model folder: plain, of files beside them, and never of a pickle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from rope_deploy.errors import ModelError
from rope_deploy.models import load_model
from tests import tiny


@pytest.fixture(scope="session")
def parts(tmp_path_factory) -> Path:
    """A model in several files, with an index."""
    folder = tmp_path_factory.mktemp("parts") / "model"
    tiny.save_family("llama", folder)
    tiny.build("llama").save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    return folder


@pytest.fixture
def sharded(parts, tmp_path) -> Path:
    return Path(shutil.copytree(parts, tmp_path / "model"))


def change(path: Path, **entries) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def refused(folder: Path, monkeypatch, **options) -> ModelError:
    """Refused before transformers or torch sees any of it."""
    for library, name in (("rope_deploy.models.loading.pretrained.AutoConfig", "from_pretrained"), ("torch", "load")):
        monkeypatch.setattr(f"{library}.{name}", lambda *_, **__: pytest.fail("a library opened it"))
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), **options)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "../evil.bin",
        "evil.bin",
        "../model/other.safetensors",
        "../../elsewhere/model.safetensors",
        "/tmp/model.safetensors",
        "sub/model.safetensors",
        "./model-00001-of-00002.safetensors",
        "..\\\\evil.safetensors",
        "~/model.safetensors",
        "model.safetensors/",
        "",
        ".",
        "https://example.org/model.safetensors",
        "model.safetensors\0",
        "weights.pt",
    ],
)
def test_an_index_that_names_what_is_no_safetensors_file_beside_it(sharded, monkeypatch, name):
    (sharded.parent / "evil.bin").write_bytes(b"cos\nsystem\n")
    (sharded / "evil.bin").write_bytes(b"cos\nsystem\n")
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    key = next(iter(index["weight_map"]))
    path.write_text(json.dumps({**index, "weight_map": {**index["weight_map"], key: name}}))
    error = refused(sharded, monkeypatch)
    assert repr(name) in error.asked and "model.safetensors.index.json" in error.asked


@pytest.mark.parametrize("weights", [None, [], "x.safetensors", {"a": 1}, {"a": ["x.safetensors"]}], ids=repr)
def test_an_index_that_is_none(sharded, monkeypatch, weights):
    change(sharded / "model.safetensors.index.json", weight_map=weights)
    assert "weight_map" in refused(sharded, monkeypatch).asked


def test_an_index_nested_beyond_reason(sharded, monkeypatch):
    (sharded / "model.safetensors.index.json").write_text("[" * 200_000)
    assert "is not JSON" in refused(sharded, monkeypatch).asked


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"transformers_weights": "../other/model.safetensors"}, "not a plain name"),
        ({"transformers_weights": "pytorch_model.bin"}, "no safetensors file"),
        ({"transformers_weights": "absent.safetensors"}, "no such file"),
        ({"transformers_weights": ["a"]}, "not a plain name"),
        ({"auto_map": {"AutoModelForCausalLM": "someone/else--modeling.Own"}}, "someone/else--modeling.Own"),
        ({"auto_map": {"AutoModelForCausalLM": "/tmp/modeling.Own"}}, "/tmp/modeling.Own"),
        ({"text_config": {"auto_map": {"AutoConfig": "a/b--c.D"}}}, "a/b--c.D"),
        ({"attn_implementation": "someone/kernels"}, "downloaded and run"),
        ({"text_config": {"_attn_implementation": "someone/kernels@main:flash"}}, "downloaded and run"),
        ({"quantization_config": {"quant_method": "gguf", "gguf_file": "../x.gguf"}}, "GGUF file"),
    ],
)
def test_a_configuration_that_reaches_outside(copied, monkeypatch, entries, said):
    change(copied / "config.json", **entries)
    (copied / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    assert said in refused(copied, monkeypatch, trust_remote_code=True).asked


@pytest.mark.parametrize(
    "entries",
    [
        {"vocab_file": "../secret.json"},
        {"fast_tokenizer_files": ["../tokenizer.4.0.json"]},
        {"init_inputs": ["../secret.json"]},
        {"auto_map": {"AutoTokenizer": ["a/b--c.Slow", None]}},
    ],
    ids=lambda entries: next(iter(entries)),
)
def test_a_tokenizer_that_reaches_outside(copied, monkeypatch, entries):
    for name in ("secret.json", "tokenizer.4.0.json"):
        (copied.parent / name).write_text("{}")
    change(copied / "tokenizer_config.json", **entries)
    assert "tokenizer_config.json" in refused(copied, monkeypatch).asked


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("key", ["vocab_file", "vocab", "merges", "anything"])
def test_no_setting_of_a_tokenizer_names_a_file_elsewhere(copied, monkeypatch, file, key):
    """transformers hands them all to the class, and `tokenizers` opens a vocabulary that is a text as a file."""
    (copied / file).touch()
    secret = copied.parent / "secret.txt"
    secret.write_text("secret")
    (copied / file).write_text(json.dumps({"tokenizer_class": "BertTokenizer", key: str(secret)}))
    assert file in refused(copied, monkeypatch).asked
    monkeypatch.chdir(copied.parent)  # a plain name is a file of the folder that the command runs in
    (copied / file).write_text(json.dumps({key: "secret.txt"}))
    if key in ("vocab", "merges"):
        assert file in refused(copied, monkeypatch).asked


def test_a_path_of_the_machine_a_tokenizer_was_made_on_does_no_harm(copied):
    change(copied / "tokenizer_config.json", special_tokens_map_file="/opt/elsewhere/special_tokens_map.json")
    (copied / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["/", "/tmp", "~"]}))
    assert load_model(str(copied)).tokenizer is not None


def test_a_tokenizer_that_cannot_be_read_is_said_to_be_left_out(copied):
    (copied / "tokenizer.json").write_text("{")
    loaded = load_model(str(copied))
    assert loaded.tokenizer is None and "cannot be read and is left out" in loaded.findings[-1].message


def test_settings_of_generation_that_cannot_be_read_are_not_replaced_by_others(copied, monkeypatch):
    (copied / "generation_config.json").write_text('{"eos_token_id": 2')
    assert "generation_config.json is not JSON" in refused(copied, monkeypatch).asked


def test_an_adapter_is_not_left_out_silently(copied, monkeypatch):
    (copied / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../other"}))
    assert "adapter" in refused(copied, monkeypatch).asked


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json"])
def test_a_pipe_is_not_waited_for(copied, monkeypatch, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    assert name in refused(copied, monkeypatch).asked


def test_nothing_is_unpickled_while_a_model_is_loaded(copied, monkeypatch):
    """Some classes load files of their own beside the weights (voices, for one)."""
    torch.save({}, copied / "voices.pt")
    before = torch.load
    from transformers import LlamaForCausalLM

    real = LlamaForCausalLM.from_pretrained.__func__

    def with_voices(cls, where, **options):
        torch.load(f"{where}/voices.pt", weights_only=True)
        return real(cls, where, **options)

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", classmethod(with_voices))
    with pytest.raises(ModelError, match="pickle") as caught:
        load_model(str(copied))
    assert "voices.pt" in str(caught.value)
    assert torch.load is before


# Hugging Face's cache keeps links to blobs


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symlinks", "hard links"])
@pytest.mark.parametrize("kind", ["llama", "parts"])
def test_a_snapshot_of_links_to_blobs(request, tmp_path, kind, link):
    source = request.getfixturevalue(kind)
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(source.iterdir())):
        blob = Path(shutil.copy(path, blobs / f"{number:040x}"))
        if link is os.symlink:
            os.symlink(os.path.relpath(blob, snapshot), snapshot / path.name)
        else:
            os.link(blob, snapshot / path.name)
    loaded = load_model(str(snapshot))
    assert loaded.tokenizer is not None
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, load_model(str(source)).model(ids).logits)


def test_a_link_that_leads_nowhere(copied, monkeypatch):
    (copied / "model.safetensors").unlink()
    os.symlink("../blobs/0123", copied / "model.safetensors")
    assert "no file that can be read" in refused(copied, monkeypatch).asked
