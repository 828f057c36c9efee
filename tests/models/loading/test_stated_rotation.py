"""Raw configurations, as transformers' own classes and rotary modules take them."""

from __future__ import annotations

import copy
import importlib
import json
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rope_deploy.errors import ConfigError, ModelError, RopeDeployError, UsageError
from rope_deploy.models.loading.rotary_module import rotary_modules
from rope_deploy.models.loading.stated_rotation import _rotates, read_by_class, specs_to_compare, stated_rotation
from rope_deploy.rope import Default, Linear, LongRope, NtkAlpha, cos_sin
from tests.models.published import PUBLISHED
from tests.sweep import swept

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 128}
LLAMA = {"model_type": "llama", **SIZES}


def differences(module: torch.nn.Module, specs: dict[str, Any]) -> list[str]:
    """Where the frequencies or the factor of transformers' module are not those of the specs."""
    found = []
    for name, buffer in module.named_buffers():
        layer_type = name.removesuffix("inv_freq").rstrip("_")
        if not name.endswith("inv_freq") or "original" in name or buffer.ndim != 1:
            continue
        spec = specs.get(layer_type) or (specs[""] if "" in specs else next(iter(specs.values())))
        due, own = spec.inv_freq(), buffer.numpy()
        if spec.mrope_axes:
            due, own = np.sort(due), np.sort(own)
        scaling = getattr(module, f"{layer_type}_attention_scaling" if layer_type else "attention_scaling", 1.0)
        if due.shape != own.shape or not np.allclose(due, own, rtol=1e-6, atol=0):
            found.append(f"{name} differs")
        if getattr(spec.scaling, "short_mscale", None) is None and scaling != spec.attention_scaling:
            found.append(f"{name}: attention scaling {scaling}")
    return found


# Published models


@pytest.mark.parametrize("name", [name for name, (module, _) in PUBLISHED.items() if module])
def test_a_published_configuration_gives_the_frequencies_of_its_own_module(name: str) -> None:
    cls, raw = PUBLISHED[name]
    config = AutoConfig.for_model(**copy.deepcopy(raw))
    modeling = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    module = getattr(modeling, cls)(config.get_text_config())
    specs = stated_rotation(raw).specs
    assert differences(module, specs) == []
    for layer_type, spec in specs.items():
        limit = spec.original_max_position if spec.depends_on_length else None
        for length in (20,) if limit is None else (limit, limit + 1):
            positions = np.array([0, 1, 5, 19, length - 1])
            given = {"layer_type": layer_type} if layer_type else {}
            places = torch.from_numpy(positions)[None]
            if spec.mrope_section:
                places = places[None].expand(3, -1, -1)
            cos, sin = module(torch.zeros(1), places, **given)
            due = cos_sin(spec, positions, seq_len=length)
            for mine, theirs in zip(due, (cos, sin), strict=True):
                half = theirs[0].numpy()[:, : mine.shape[1]]
                np.testing.assert_allclose(half[:4], mine[:4], atol=3e-6, err_msg=f"{layer_type} {length}")


def test_that_comparison_sees_a_planted_fault() -> None:
    cls, raw = PUBLISHED["Hunyuan 7B"]
    config = AutoConfig.for_model(**copy.deepcopy(raw))
    module = getattr(importlib.import_module("transformers.models.hunyuan_v1_dense.modeling_hunyuan_v1_dense"), cls)
    wrong = copy.deepcopy(raw)
    wrong["rope_scaling"]["alpha"] = 999.0
    assert differences(module(config), stated_rotation(wrong).specs) == ["inv_freq differs"]


def test_what_published_files_say() -> None:
    def specs(name: str) -> dict[str, Any]:
        return stated_rotation(PUBLISHED[name][1]).specs

    assert specs("LLaMA 7B of 2023")[""].rope_theta == 10_000
    assert specs("Hunyuan A13B")[""].scaling == NtkAlpha(1000.0)
    assert specs("Falcon 7B")[""].rotary_dim == 64
    assert specs("GPT-NeoX 20B")[""].rotary_dim == 24
    assert specs("Llama 4 Scout")[""].interleaved
    gemma = specs("Gemma 3 27B")
    assert (gemma["full_attention"].scaling, gemma["sliding_attention"].scaling) == (Linear(8.0), Default())
    moe = specs("Phi-3.5 MoE")[""]
    assert isinstance(moe.scaling, LongRope)
    assert (moe.attention_scaling_at(4096), moe.attention_scaling_at(4097)) == (1.243163121016122, 1.25)
    np.testing.assert_array_equal(moe.inv_freq(4096), moe.inv_freq(4097))
    odd = specs("a share that makes an odd width")[""]
    assert (odd.rotary_dim, odd.exponent_dim) == (36, 35)


# Shapes of configurations, for every model type

NESTED = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
SHAPES: dict[str, dict[str, Any]] = {
    "no key at all": {},
    "null": {"rope_scaling": None, "rope_theta": 50_000.0},
    "old, linear": {"rope_theta": 50_000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "new, yarn": {"rope_parameters": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "rope_theta": 5e4}},
    "nested": {"rope_parameters": NESTED},
    "nested and scaled": {"rope_parameters": NESTED, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "odd share": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4, "partial_rotary_factor": 0.55}},
    "alpha": {"rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 100.0}},
}  # fmt: skip
# The least number of model types whose module can be made of a shape and equals what is read of it.
READ = {
    "no key at all": 170,
    "null": 140,
    "old, linear": 140,
    "new, yarn": 130,
    "nested": 12,
    "nested and scaled": 0,
    "odd share": 20,
    "alpha": 0,
}
_OF_ROPE = re.compile("rope|rotary|theta|partial_rot|rotary_pct|layer_types_")


@pytest.fixture(scope="module")
def plain() -> dict[str, dict[str, Any]]:
    """The default configuration of every model type that rotates text, without what it says of the rotation."""
    found = {}
    for model_type, kind in CONFIG_MAPPING.items():
        try:
            made = kind()
        except Exception:
            continue  # some have no default configuration
        if made.sub_configs or not getattr(made, "rope_parameters", None) or made.default_rope_type != "default":
            continue
        settings = json.loads(made.to_json_string(use_diff=False))
        kept = {k: v for k, v in settings.items() if not _OF_ROPE.search(k) or k == "qk_rope_head_dim"}
        found[model_type] = {**kept, "model_type": model_type}
    assert len(found) > 180
    return found


@pytest.mark.parametrize("shape", swept(SHAPES, ()))
def test_every_model_type_is_read_as_its_own_module_takes_it_or_refused_by_name(shape: str, plain) -> None:
    """Nothing between: what is read has the module's frequencies; what is not is an error with a key in it."""
    read, differing, mute = 0, {}, {}
    for model_type, settings in plain.items():
        raw = {**settings, **SHAPES[shape]}
        try:
            specs = stated_rotation(copy.deepcopy(raw)).specs
        except ModelError:
            continue  # told to do without, as Zamba 2 is by default
        except RopeDeployError as error:
            if not re.search(r"[a-z]+_[a-z]+|alpha|factor|head", str(error)):
                mute[model_type] = str(error)
            continue
        made = read_by_class(raw)[1]
        for module in rotary_modules(made):
            read += 1
            if found := differences(module, specs):
                differing[model_type] = found
    assert not differing
    assert not mute
    assert read >= READ[shape]


# Keys that nothing reads, and values that cannot be


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "warp": 3}}, "warp is not read by the rule"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 30}}, "beta_fast is not read by the rule"),
        ({"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}}, "factor is not read by the rule default"),
        ({"rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 9.0}}, "alpha is not read by the rule dynamic"),
        ({"rope_scaling": {"type": None, "factor": 2.0}}, "type is null"),
        ({"rope_scaling": {"rope_type": "linear", "type": "yarn", "factor": 2.0}}, "type says 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor"),
        ({"rope_theta": "10000"}, "rope_theta must be a finite number above 1, not '10000'"),
        ({"rope_theta": None}, "rope_theta must be a finite number above 1, not None"),
        ({"rope_theta": 10**400}, "rope_theta must be a finite number above 1"),
        ({"rope_parameters": {"rope_theta": float("nan")}}, "rope_theta must be a finite number above 1, not nan"),
        ({"rope_parameters": NESTED}, "rope_parameters.full_attention is not read"),
        ({"rope_parameters": {"rope_theta": 5e5}, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_theta is"),
        ({"partial_rotary_factor": 0.5}, "as partial_rotary_factor says"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"rope_scaling": [1]}, "rope_scaling must be a mapping"),
        ({"model_type": "esm", "position_embedding_type": "rotary", "rope_scaling": {"factor": 2.0}}, "EsmConfig"),
        ({"model_type": "phimoe", "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8,
          "long_factor": [1.0] * 8}}, "short_mscale is missing"),
        ({"num_hidden_layers": 2**31 - 1}, "num_hidden_layers must be at most 10000; it is 2147483647"),
        ({"model_type": "gemma3", "text_config": {"num_hidden_layers": 2**31}}, "text_config.num_hidden_layers"),
        ({"model_type": "zamba2", "num_mem_blocks": 2**31}, "num_mem_blocks must be at most"),
        ({"model_type": "own", "rope_theta": 1e4, "num_hidden_layers": 2**31}, "num_hidden_layers must be at most"),
        ({"model_type": "nomic_bert", "rotary_emb_base": 500}, "rotary_emb_base is 500, and no rule"),
        ({"model_type": "nomic_bert", "rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5, and no rule"),
        ({"model_type": "dbrx", "attn_config": {"rope_theta": 5e5}}, "attn_config.rope_theta is 500000.0, and no rule"),
        ({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e4}}, "rope_theta is 500000.0, and no rule"),
        ({"model_type": "phi3", "original_max_position_embeddings": 32, "rope_scaling": {"type": "su",
          "short_factor": [1.0] * 8, "long_factor": [1.0] * 8}}, "original_max_position_embeddings is missing"),
        ({"hidden_size": 2**40}, "head_dim, the head size, must be at most 65536"),
    ],
)  # fmt: skip
def test_a_key_that_nothing_reads_and_a_value_that_cannot_be_are_named(change: dict[str, Any], said: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        stated_rotation({**LLAMA, **change})
    assert caught.value.exit_code == 2
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    "rule",
    [
        {"rope_type": "dynamic", "type": "linear", "factor": 2.0},
        {"rope_type": "longrope", "type": "linear", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
    ],
    ids=lambda rule: rule["rope_type"],
)
def test_another_fault_makes_no_fault_of_the_width(rule: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        stated_rotation({**LLAMA, "rope_scaling": rule})
    assert len(caught.value.faults) == 1


def test_bases_and_shares_that_a_class_takes_over_or_that_change_nothing_are_no_fault() -> None:
    neox = {"model_type": "gpt_neox", **SIZES, "rotary_emb_base": 500, "rotary_pct": 0.5}
    assert stated_rotation(neox).specs[""].rope_theta == 500
    nomic = {"model_type": "nomic_bert", **SIZES, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0}
    assert stated_rotation(nomic).specs[""].rope_theta == 1000


def test_what_is_known_to_be_of_no_consequence_is_no_fault() -> None:
    scaled = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "finetuned": True}
    assert stated_rotation({**LLAMA, "rope_scaling": scaled}).specs[""].scaling.rope_type == "yarn"
    assert stated_rotation({**LLAMA, "num_labels": 2**31, "max_position_embeddings": 10**12}).specs
    beside = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_parameters": {
        kind: {"rope_type": "default", "rope_theta": theta}
        for kind, theta in (("full_attention", 1e6), ("sliding_attention", 1e4))}}  # fmt: skip
    specs = stated_rotation({**LLAMA, "model_type": "gemma3_text", "head_dim": 16, **beside}).specs
    assert (specs["full_attention"].scaling, specs["sliding_attention"].scaling) == (Linear(8.0), Default())


def test_an_unknown_rope_type_is_named_and_never_unscaled() -> None:
    with pytest.raises(UsageError, match="'spiral' is not known"):
        stated_rotation({**LLAMA, "rope_scaling": {"rope_type": "spiral", "factor": 2.0}})


# Models that state nothing


@pytest.mark.parametrize(
    "raw",
    [
        {"model_type": "falcon", "alibi": True, "hidden_size": 64, "num_attention_heads": 4},
        {"model_type": "esm", **SIZES, "position_embedding_type": "absolute"},
        {"model_type": "gpt2", "n_embd": 64, "n_head": 4},
    ],
    ids=lambda raw: raw["model_type"],
)
def test_a_model_whose_own_code_does_not_rotate_is_refused(raw: dict[str, Any]) -> None:
    for read in (stated_rotation, specs_to_compare):
        with pytest.raises(ModelError, match="no rotary position embedding"):
            read(raw)


STRAY = ({}, {"rope_theta": 1e4}, {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}})
STILL = sorted(name for name in CONFIG_MAPPING if not _rotates(name))


def said(read: Callable[[dict[str, Any]], Any], raw: dict[str, Any]) -> tuple[str, str]:
    try:
        return "read", str(read(raw))
    except RopeDeployError as error:
        return type(error).__name__, error.asked


@pytest.mark.parametrize("model_type", STILL)
def test_no_stray_key_makes_a_model_rotate_whose_code_does_not(model_type: str) -> None:
    answers = [said(specs_to_compare, {"model_type": model_type, **SIZES, **stray}) for stray in STRAY]
    assert {kind for kind, _ in answers} == {"ModelError"}
    assert all("has no rotary position embedding" in asked for _, asked in answers)
    # Its class may refuse these sizes or the stray key, or fill in a text part that does rotate.
    judged = [said(stated_rotation, {"model_type": model_type, **SIZES, **stray}) for stray in STRAY]
    assert "read" not in {kind for kind, _ in judged} or judged[0][0] == "read"


def test_the_stray_keys_are_named_and_the_sweep_is_no_empty_one() -> None:
    assert len(STILL) > 300 and {"bloom", "gpt2", "bert", "opt"} <= set(STILL)
    with pytest.raises(ModelError, match="A bloom model") as caught:
        specs_to_compare({"model_type": "bloom", **SIZES, "rope_theta": 1e4, "rope_scaling": None})
    assert caught.value.exists == "Its configuration states rope_theta, which nothing reads."
    own = {"model_type": "bloom", **SIZES, "rope_theta": 1e4, "auto_map": {"AutoModel": "modeling.Mine"}}
    assert specs_to_compare(own)[""].rope_theta == 1e4, "code of its own may do with it what it likes"


def test_a_rotation_that_follows_from_keys_of_its_own_is_not_guessed() -> None:
    own = {"model_type": "toy", **SIZES, "rope_theta": 1e4, "rope_ratio": 50, "use_xpos": True}
    with pytest.raises(ModelError, match="nothing here reads: rope_ratio, use_xpos"):
        stated_rotation(own)
    assert specs_to_compare(own) == {}
    assert specs_to_compare({"model_type": "toy", **SIZES, "rope_ratio": 50}) == {}
    for key, value in {"is_neox_style": False, "use_rope": False, "position_interpolation_factor": 4.0}.items():
        assert specs_to_compare({"model_type": "toy", **SIZES, "rope_theta": 1e4, key: value}) == {}
        with pytest.raises(ModelError, match=f"nothing here reads: {key}"):
            stated_rotation({"model_type": "toy", **SIZES, "rope_theta": 1e4, key: value})
    for key in ("is_neox_style", "use_rope"):
        assert stated_rotation({"model_type": "toy", **SIZES, "rope_theta": 1e4, key: True}).specs[""].rope_theta == 1e4
    assert specs_to_compare({"model_type": "toy", **SIZES, "rope_theta": 1e4})[""].rope_theta == 1e4


@pytest.mark.parametrize(
    "twice",
    [
        {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e4}},
        {"rope_theta": 1e4, "rotary_emb_base": 5e4},
        {"rope_theta": 1e4, "partial_rotary_factor": 0.5, "rotary_pct": 0.25},
        {
            "rope_theta": 1e4,
            "original_max_position_embeddings": 32,
            "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        },
    ],
    ids=lambda twice: "-".join(twice),
)
def test_of_an_unknown_type_a_setting_that_is_stated_twice_is_not_taken_from_either_place(twice) -> None:
    own = {"model_type": "toy", **SIZES, **twice}
    with pytest.raises(ConfigError, match="states a setting of its rotation twice"):
        stated_rotation(own)
    assert specs_to_compare(own) == {}


def test_sections_that_are_not_as_many_pairs_as_turn_are_a_fault() -> None:
    parameters = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 4]}
    with pytest.raises(
        ConfigError, match=r"mrope_section must add up to the 8 pairs that are rotated; \[2, 3, 4\] makes 9"
    ):
        stated_rotation({"model_type": "qwen2_vl_text", **SIZES, "rope_parameters": parameters})
    parameters["mrope_section"] = [2, 3, 3]
    assert stated_rotation({"model_type": "qwen2_vl_text", **SIZES, "rope_parameters": parameters}).specs


def test_a_model_that_turns_nothing_is_called_that_also_where_its_class_stumbles() -> None:
    stated = {"model_type": "gpt2", "rope_scaling": {"type": "yarn", "factor": 8.0}, "n_embd": "wide"}
    with pytest.raises(ModelError, match="A gpt2 model has no rotary position embedding"):
        stated_rotation(stated)
