"""The families are read from whatever transformers is installed."""

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.families import census
from conformance.families.judge import judge
from conformance.families.source import identifier_parts, model_classes
from conformance.families.subset import SUBSET

MODELING = '''
"""Talks of rotary embeddings."""
from torch import nn

def apply_rotary_pos_emb(q, k, cos, sin):
    return q, k

KINDS = {"eager": None}

class NewAttention(nn.Module):
    def forward(self, q, k, cos, sin):
        return apply_rotary_pos_emb(q, k, cos, sin)

class PlainAttention(nn.Module):
    """Has no rotary embedding."""
    def forward(self, q):
        return q

class NewPreTrainedModel(PreTrainedModel):
    config: NewConfig

class NewModel(NewPreTrainedModel):
    def __init__(self, config):
        self.layer = NewAttention()
    def forward(self, input_ids, *, attention_mask=None):
        return self.layer(input_ids)

class NewForCausalLM(NewPreTrainedModel):
    def __init__(self, config):
        self.model = NewModel(config)
    def forward(self, input_ids):
        return self.model(input_ids)

class NewVisionModel(NewPreTrainedModel):
    config: NewVisionConfig
    def __init__(self, config):
        self.layer = PlainAttention()
    def forward(self, pixel_values):
        return self.layer(pixel_values)
'''


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    path = tmp_path_factory.mktemp("new") / "modeling_new.py"
    path.write_text(MODELING)
    return {one.name: one for one in model_classes(path, "new.modeling_new")}


def test_a_new_modeling_file_shows_its_models(classes) -> None:
    assert list(classes) == ["NewModel", "NewForCausalLM", "NewVisionModel"]
    assert classes["NewForCausalLM"].config == "NewConfig"
    assert classes["NewModel"].inputs == ("input_ids", "attention_mask")


def test_a_model_rotates_if_anything_it_uses_does(classes) -> None:
    assert classes["NewForCausalLM"].rotates


def test_a_docstring_is_no_rotation(classes) -> None:
    assert not classes["NewVisionModel"].rotates
    assert classes["NewVisionModel"].config == "NewVisionConfig"


def test_a_family_whose_configuration_cannot_be_imported_is_recorded(classes, monkeypatch, tmp_path) -> None:
    def failing(module: str, name: str) -> type:
        raise ModuleNotFoundError("No module named 'elsewhere'")

    monkeypatch.setattr(census, "config_class", failing)
    module, chosen = "transformers.models.llama.modeling_llama", replace(classes["NewForCausalLM"], name="LlamaModel")
    family = census._family(chosen, module, "NewConfig", census._tables())
    record = judge(family, ("tables",), tmp_path / "work", tmp_path)
    assert (record.family, record.verdict) == ("NewConfig", "needs-package")
    assert record.reason == "ModuleNotFoundError: No module named 'elsewhere'"


@pytest.mark.parametrize("name", ["apply_rotary_pos_emb", "Llama4VisionRotaryEmbedding", "use_rope", "freqs_cis"])
def test_words_of_an_identifier(name: str) -> None:
    from conformance.families.source import PARTS

    assert identifier_parts(name) & PARTS


@pytest.mark.parametrize("name", ["properties", "scope", "Europe", "precision"])
def test_a_word_inside_another_does_not_count(name: str) -> None:
    from conformance.families.source import PARTS

    assert not identifier_parts(name) & PARTS


@pytest.mark.slow
def test_families_by_category() -> None:
    found = {family.name: family.category for family in census.families()}
    assert {found[name] for name in ("llama", "gptj", "deepseek_v3", "qwen3_next", "gemma3_text")} == {"decoder"}
    assert {found[name] for name in ("modernbert", "esm", "nomic_bert")} == {"masked-lm"}
    assert found["t5gemma"] == "encoder-decoder"
    assert {found[name] for name in ("qwen2_vl", "gemma3")} == {"multimodal"}
    assert {found[name] for name in ("dinov3_vit", "pixtral", "qwen2_vl_vision")} == {"vision"}
    assert {found[name] for name in ("parakeet_encoder", "moonshine")} == {"audio"}
    assert not {"bert", "gpt2", "vit", "whisper", "mamba"} & found.keys()
    assert sum(category in ("decoder", "masked-lm") for category in found.values()) >= 120


@pytest.mark.slow
def test_every_model_class_of_the_census_is_there() -> None:
    import transformers

    root = Path(transformers.__file__).parents[1]
    for family in census.families():
        path = root.joinpath(*family.module.split(".")).with_suffix(".py")
        assert f"class {family.model}(" in path.read_text()


@pytest.mark.slow
def test_an_unknown_family_is_an_error() -> None:
    with pytest.raises(KeyError, match="no rotating family llamma"):
        census.select(["llamma"])


def test_the_subset_stands_for_every_kind() -> None:
    chosen = census.select(SUBSET)
    assert len(chosen) >= 25
    assert {"decoder", "masked-lm", "encoder-decoder", "multimodal", "vision"} <= {one.category for one in chosen}


@pytest.mark.sweep
def test_families_chosen_by_name_are_those_of_the_whole_census() -> None:
    whole = {family.name: family for family in census.families()}
    assert census.select(whole) == tuple(whole.values())
    for name in SUBSET:
        assert census.select([name]) == (whole[name],)
