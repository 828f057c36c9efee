"""Every rope type is tried on a decoder, and only what its own code obeys and the graph follows is green."""

import json
from pathlib import Path

import pytest
import torch

from conformance.families import ropes
from conformance.families.census import select
from conformance.families.shrink import ORIGINAL
from conformance.families.tiny import tiny_model
from rope_deploy.rope.rules import RULES


def judged(tmp_path: Path, name: str, *types: str, styles=("tables",), expected: int = 4) -> dict:
    ropes.judge_ropes(select([name])[0], types, styles, expected, tmp_path)
    return json.loads((tmp_path / "ropes.json").read_text())


def test_every_type_that_there_is() -> None:
    """But the rule of Hunyuan's `alpha`, which no other model type accepts."""
    assert set(ropes.TYPES) == set(RULES) - {"ntk_alpha"}


@pytest.mark.parametrize("rope_type", ropes.TYPES)
def test_settings_of_a_type_are_those_of_its_rule(rope_type: str) -> None:
    settings = ropes.scaled(rope_type, {"rope_type": "x", "rope_theta": 9.0, "factor": 3.0}, 4)
    assert settings["rope_type"] == rope_type
    assert settings["rope_theta"] == 9.0
    assert settings.get("factor", ropes.FACTOR) == ropes.FACTOR
    assert settings.get("original_max_position_embeddings", ORIGINAL) == ORIGINAL


def test_what_belongs_to_another_rule_is_left_out() -> None:
    rule = {"rope_theta": 9.0, "partial_rotary_factor": 0.25}
    assert ropes.scaled("linear", {"rope_type": "default", **rule}, 4)["partial_rotary_factor"] == 0.25
    assert "partial_rotary_factor" not in ropes.scaled("linear", {"rope_type": "proportional", **rule}, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_types_that_come_through(tmp_path: Path) -> None:
    found = judged(tmp_path, "llama", "dynamic", "yarn")
    assert {name: one["verdict"] for name, one in found.items()} == {"dynamic": "green", "yarn": "green"}
    assert found["dynamic"]["asked"] >= 10  # below, at and beyond the length at which it changes


@pytest.mark.filterwarnings("ignore")
def test_a_rule_per_layer_type(tmp_path: Path) -> None:
    family = select(["gemma3_text"])[0]
    settings = [make().rope_parameters for make in ropes.variants(family, tiny_model(family), "llama3")]
    kinds = [{key: rule["rope_type"] for key, rule in one.items()} for one in settings]
    full, sliding = "full_attention", "sliding_attention"
    assert kinds[0] == {full: "llama3", sliding: "llama3"}
    assert {full: "llama3", sliding: "default"} in kinds[1:]
    assert {full: "default", sliding: "llama3"} in kinds[1:]


def test_a_family_without_rules_accepts_none(tmp_path: Path) -> None:
    assert judged(tmp_path, "gptj", "yarn")["yarn"]["verdict"] == "unaccepted"


def test_a_family_that_takes_no_notice_does_not_accept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ropes, "long_answer", lambda model: torch.zeros(1))
    assert judged(tmp_path, "llama", "linear")["linear"] == {
        "verdict": "unaccepted",
        "reason": "It takes no notice of it.",
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_graph_of_another_rule_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ropes.traced

    def of_the_default(loaded):
        rotary = loaded.model.model.rotary_emb
        kept = rotary.inv_freq.clone()
        rotary.inv_freq *= ropes.FACTOR  # what linear scaling divided by
        prepared = honest(loaded)
        rotary.inv_freq.copy_(kept)
        return prepared

    monkeypatch.setattr(ropes, "traced", of_the_default)
    assert judged(tmp_path, "llama", "linear")["linear"]["verdict"] == "wrong"


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")
def test_a_rotation_too_few_is_not_green(tmp_path: Path) -> None:
    found = judged(tmp_path, "llama", "linear", expected=5)["linear"]
    assert found["verdict"] == "sites"
    assert found["reason"] == "tables: PyTorch rotates 5 times, the graph 4 times."
