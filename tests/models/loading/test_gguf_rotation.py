"""What a GGUF file says of its rotation is in the loaded model, or the file is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.integrations import GGUF_CONFIG_MAPPING

from rope_deploy.errors import ModelError
from rope_deploy.models import load_model, read_config
from rope_deploy.models.loading.gguf_header import read_header
from rope_deploy.models.loading.gguf_rotation import check_gguf, require_same_rotation
from tests import tiny
from tests.models.gguf_file import write_gguf

PLAIN_RULE = {"rope_type": "default", "rope_theta": 12_345.0}


@pytest.fixture(scope="module")
def plain():
    return tiny.build("llama", rope_parameters=PLAIN_RULE)


def refused(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_model(str(path))
    assert caught.value.exit_code == 2
    with pytest.raises(ModelError, match="scales its rotation"):
        read_config(str(path))  # whoever wants the configuration alone would be told a plain rule
    return caught.value


@pytest.mark.parametrize("heads", ["four", -4, float("nan"), True])
def test_a_number_of_heads_that_is_none_is_refused(tmp_path, plain, monkeypatch, heads):
    path = write_gguf(plain, tmp_path / "model.gguf")
    header = read_header(path)
    settings = {**header.settings, "llama.attention.head_count": heads}
    monkeypatch.setattr(
        "rope_deploy.models.loading.gguf_rotation.read_header", lambda _: replace(header, settings=settings)
    )
    with pytest.raises(ModelError, match=r"head_count = .*, which is no positive number"):
        check_gguf(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scale_linear", 4.0),
        ("llama.rope.scaling.factor", 4.0),  # without a type, llama.cpp takes it for linear
        ("llama.rope.scaling.factor", 2),
        ("llama.rope.scaling.type", "yarn"),
        ("llama.rope.scaling.type", "longrope"),
        ("llama.rope.scaling.type", "None"),
        ("llama.rope.scaling.attn_factor", 1.25),
        ("llama.rope.scaling.alpha", 1000.0),
        ("llama.rope.scaling.yarn_log_multiplier", 0.1),
        ("llama.rope.scaling.yarn_ext_factor", 1.0),
        ("llama.rope.scaling.yarn_attn_factor", 0.5),
        ("llama.rope.scaling.yarn_beta_fast", 16.0),
        ("llama.rope.scaling.factor", [1.0, 4.0]),
        ("llama.rope.no_such_setting", 1.0),
        ("qwen2.rope.freq_base", 1e6),  # of another architecture: nobody reads it
        ("llama.rope.freq_base_swa ", 1e4),
    ],
)
def test_a_setting_that_would_be_lost_is_named_with_its_value(tmp_path, plain, key, value):
    error = refused(write_gguf(plain, tmp_path / "model.gguf", settings={key: value}))
    assert f"{key} = " in error.asked
    assert (str(value) if isinstance(value, (str, list)) else f"{value:g}") in error.asked
    assert "config.json" in error.todo


@pytest.mark.parametrize("name", ["rope_freqs.weight", "rope_factors_long.weight", "blk.0.rope_freqs.weight"])
def test_frequency_factors_in_a_tensor_are_refused(tmp_path, plain, name):
    assert name in refused(write_gguf(plain, tmp_path / "model.gguf", factors=name)).asked


@pytest.mark.parametrize(
    "settings",
    [
        {"llama.rope.scaling.type": "none"},
        {"llama.rope.scaling.factor": 1.0},
        {"llama.rope.scale_linear": 1.0, "llama.rope.scaling.type": "none"},
        {"llama.rope.scaling.factor": 0.0},
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0},
        {"llama.rope.scaling.type": "linear"},
        {"llama.rope.scaling.attn_factor": 1.0, "llama.rope.scaling.yarn_log_multiplier": 0.0},
        {"llama.rope.scaling.original_context_length": 64, "llama.rope.scaling.finetuned": False},
        {"llama.rope.freq_base_swa": 12_345.0},  # what it is without it
    ],
    ids=lambda settings: ",".join(key.rpartition(".")[2] for key in settings),
)
def test_a_setting_that_changes_nothing_is_passed_over(tmp_path, plain, settings):
    loaded = load_model(str(write_gguf(plain, tmp_path / "model.gguf", settings=settings)))
    assert loaded.specs[""].scaling.rope_type == "default"
    assert torch.equal(loaded.model.model.rotary_emb.inv_freq, plain.model.rotary_emb.inv_freq)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"llama.rope.freq_base_swa": 500.0}, "freq_base_swa = 500"),
        ({"llama.rope.dimension_sections": [4, 4, 0, 0]}, "dimension_sections = [4, 4]"),
    ],
)
def test_a_setting_that_is_compared_and_is_not_in_the_model_is_refused(tmp_path, plain, settings, said):
    with pytest.raises(ModelError, match="makes another rotation") as caught:
        load_model(str(write_gguf(plain, tmp_path / "model.gguf", settings=settings)))
    assert said in caught.value.exists


def test_a_loader_that_drops_a_setting_is_found_out(tmp_path, plain, monkeypatch):
    path = write_gguf(plain, tmp_path / "model.gguf")
    load_model(str(path))
    monkeypatch.setitem(GGUF_CONFIG_MAPPING, "llama", {**GGUF_CONFIG_MAPPING["llama"], "rope.freq_base": None})
    with pytest.raises(ModelError, match="makes another rotation") as caught:
        load_model(str(path))
    assert "of base 12345" in caught.value.exists


def test_frequencies_width_and_factor_are_all_compared(tmp_path, plain):
    path = write_gguf(plain, tmp_path / "model.gguf")
    stated = check_gguf(path)
    require_same_rotation(path, stated, plain)
    other = tiny.build("llama", rope_parameters={**PLAIN_RULE, "rope_theta": 12_346.0})
    with pytest.raises(ModelError, match="another rotation"):
        require_same_rotation(path, stated, other)
    narrow = tiny.build("llama", rope_parameters={**PLAIN_RULE, "partial_rotary_factor": 0.5})
    narrow.model.rotary_emb.inv_freq = narrow.model.rotary_emb.inv_freq[:4]
    with pytest.raises(ModelError, match="another rotation") as caught:
        require_same_rotation(path, stated, narrow)
    assert "4 frequencies" in caught.value.exists
    louder = tiny.build("llama", rope_parameters=PLAIN_RULE)
    louder.model.rotary_emb.attention_scaling = 1.1
    with pytest.raises(ModelError, match="another rotation") as caught:
        require_same_rotation(path, stated, louder)
    assert "attention_scaling is 1.1" in caught.value.exists


@pytest.mark.parametrize("base", [0.0, -1.0, float("nan"), float("inf")])
def test_a_base_that_is_no_positive_number(tmp_path, base):
    path = write_gguf(tiny.build("llama", rope_parameters=PLAIN_RULE), tmp_path / "model.gguf", base=base)
    with pytest.raises(ModelError, match=r"freq_base = .*no positive number"):
        load_model(str(path))
