"""Published rules: stated as checkpoints state them, obeyed by the family's own code, exported and checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig

from conformance.families import census, published
from conformance.families.published import NESTED, PUBLISHED, RULES, SUBSET, judge_published, stated
from conformance.families.shrink import ORIGINAL
from conformance.families.subset import SUBSET as FAMILIES
from conformance.families.tiny import tiny_config
from rope_deploy.models.loading.stated_rotation import stated_rotation


def test_every_rule_that_checkpoints_have_is_there() -> None:
    kinds = set()
    for titles in PUBLISHED.values():
        for settings in titles.values():
            rule = settings.get("rope_scaling") or settings["rope_parameters"]
            for one in [value for value in rule.values() if isinstance(value, dict)] or [rule]:
                kinds.add("alpha" if "alpha" in one else one.get("rope_type") or one["type"])
                kinds |= {"sections"} & {"sections" if "mrope_section" in one else ""}
    wanted = {"llama3", "linear", "dynamic", "yarn", "longrope", "alpha", "proportional", "sections"}
    assert kinds >= wanted


def test_families_are_those_of_transformers_and_the_subset_is_swept() -> None:
    assert {family.name for family in census.select(PUBLISHED)} == set(PUBLISHED)
    assert set(SUBSET) <= set(PUBLISHED) & set(FAMILIES)


@pytest.mark.parametrize(("name", "title"), [(name, title) for name in PUBLISHED for title in PUBLISHED[name]])
def test_the_file_states_the_rule_and_states_it_once(name: str, title: str) -> None:
    (family,) = census.select([name])
    config = stated(tiny_config(family).to_dict(), PUBLISHED[name][title])
    parts = [config, *(config[inner] for inner in NESTED if isinstance(config.get(inner), dict))]
    assert sum(any(key in part for key in RULES) for part in parts) == 1
    read = AutoConfig.for_model(**config)
    assert read.model_type == name
    for spec in stated_rotation(config).specs.values():
        original = spec.original_max_position
        assert original is None or original == ORIGINAL


@pytest.mark.slow
def test_a_rule_from_file_to_verdict(tmp_path: Path) -> None:
    (family,) = census.select(["llama"])
    judge_published(family, ["Llama 3.1"], ("onnx",), 4, tmp_path)
    (result,) = json.loads((tmp_path / "published.json").read_text()).values()
    assert result["verdict"] == "green", result
    assert result["asked"] >= 9
    assert result["logits_error"] < 1e-3


def test_a_rule_that_changes_nothing_is_not_called_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (family,) = census.select(["llama"])
    same = {"rope_theta": 10_000.0, "max_position_embeddings": 2048, "rope_scaling": None}
    monkeypatch.setattr(published, "PUBLISHED", {"llama": {"itself": same}})
    judge_published(family, ["itself"], ("onnx",), 4, tmp_path)
    assert json.loads((tmp_path / "published.json").read_text())["itself"]["verdict"] == "unaccepted"
