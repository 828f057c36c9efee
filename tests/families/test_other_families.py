"""Families and variants without a configuration of their own, held against transformers in the same way."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rope_deploy.artifact import load_manifest
from rope_deploy.export import prepare, write
from rope_deploy.models import load_model, run_reference
from rope_deploy.options import ExportOptions
from rope_deploy.runtimes import open_ort
from rope_deploy.styles import STYLES
from tests import tiny
from tests.families.compare import CASES, Case, Session, Stock, difference
from tests.families.prepared import prepared
from tests.sweep import swept

DYNAMIC = {
    "max_position_embeddings": 32,
    "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0},
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    @cache
    def of(family: str) -> Stock:
        return Stock(tiny.save_family(family, tmp_path_factory.mktemp(family) / "model"))

    return of


def wrong_cases(folder: Path, theirs: Stock, cases: list[Case] | None = None) -> dict[str, float]:
    session = Session(folder)
    errors = {
        case.name: difference(case, session.answers(case), theirs.answers(case)) for case in cases or session.cases()
    }
    assert errors
    return {name: error for name, error in errors.items() if not error <= session.manifest.tolerances.logits}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("family", swept(["cohere2", "glm", "modernbert_bare"], ()))
def test_a_family_in_every_style(family, style, stock, tmp_path):
    write(prepared(family), tmp_path / style, style)
    assert wrong_cases(tmp_path / style, stock(family)) == {}


@pytest.mark.parametrize("family", swept(["smollm2", "mistral", "gemma3"], ["gemma3"]))
def test_contrib_without_fused_attention_does_every_case(family, stock, tmp_path):
    write(prepared(family), tmp_path / "contrib", "contrib", fused_attention=False)
    session = Session(tmp_path / "contrib")
    assert session.cases() == list(CASES)
    assert wrong_cases(tmp_path / "contrib", stock(family)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("style", ["tables", "plugin"])
def test_an_older_opset(style, stock, tmp_path):
    write(prepared("qwen3"), tmp_path / style, style, opset=17)
    assert load_manifest(tmp_path / style).opset == 17
    assert wrong_cases(tmp_path / style, stock("qwen3")) == {}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"rope_parameters": YARN}, DYNAMIC], ids=["yarn", "dynamic"])
def test_a_scaling_rule(settings, tmp_path):
    """In transformers dynamic NTK remembers the longest call it saw, so each case gets a model of its own."""
    folder = tiny.save_family("llama", tmp_path / "model", **settings)
    write(
        prepare(tiny.loaded("llama", **settings), ExportOptions(max_position=tiny.POSITIONS)),
        tmp_path / "artifact",
        "tables",
    )
    growing = settings is DYNAMIC  # its cached keys were rotated by other frequencies: prompts only
    cases = [case for case in CASES if not (growing and case.later)]
    assert "far out" in {case.name for case in CASES}
    cases += [Case("prompt far out", (6,), start=100)]
    wrong = {}
    for case in cases:
        wrong |= wrong_cases(tmp_path / "artifact", Stock(folder), [case])
    assert wrong == {}
    plain = Stock(tiny.save_family("llama", tmp_path / "plain", rope_parameters={**YARN, "rope_type": "default"}))
    assert wrong_cases(tmp_path / "artifact", plain, cases[-1:]), "the twin: without the rule it differs"


# A module that is no model of transformers


@pytest.mark.parametrize("style", STYLES)
def test_a_plain_module_with_a_rotation_written_by_hand(style, tmp_path):
    loaded = load_model("tests.models.plain:plain_with_config")
    write(_plain(), tmp_path / style, style)
    manifest = load_manifest(tmp_path / style)
    assert [i.name for i in manifest.inputs] == ["input_ids", "attention_mask", "position_ids"]
    assert (manifest.rotations[0].spec["interleaved"], manifest.rotations[0].spec["rotary_dim"]) == (True, 8)
    rng = np.random.default_rng(0)
    for batch, tokens, stride in ((1, 1, 1), (2, 7, 1), (3, 20, 3)):
        ids = rng.integers(0, 61, (batch, tokens))
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(tokens)[None].repeat(batch, 0) * stride,
        }
        with open_ort(tmp_path / style) as runtime:
            mine = runtime.run(feeds)["logits"]
        assert np.abs(mine - run_reference(loaded, feeds)["logits"]).max() < 1e-5
    elsewhere = run_reference(loaded, {**feeds, "position_ids": feeds["position_ids"] // 3})["logits"]
    assert np.abs(mine - elsewhere).max() > 1e-3


@cache
def _plain():
    return prepare(load_model("tests.models.plain:plain_with_config"))


def test_left_padding_is_refused_where_it_would_be_wrong(stock, tmp_path):
    """The limits that shorten the list of cases are no excuse: without them the answers differ."""
    write(prepared("smollm2"), tmp_path / "contrib", "contrib")
    left = next(case for case in CASES if case.left)
    assert wrong_cases(tmp_path / "contrib", stock("smollm2"), [replace(left, later=())])
