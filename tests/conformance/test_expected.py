"""A sweep that is held against a list fails for what is worse, and only for that."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.families import __main__, expected, record
from conformance.families.record import Record, StyleResult


def found(verdict: str = "green", **changed) -> Record:
    return Record("llama", "decoder", "LlamaForCausalLM", verdict=verdict, reason="Why.", **changed)


def surprises(one: Record, before: dict) -> list[bool]:
    return [surprise.worse for surprise in expected.surprises([one], {"llama": before})]


@pytest.mark.parametrize(
    ("now", "before", "worse"),
    [
        ("green", "green", []),
        ("green", "refused", [False]),
        ("refused", "refused", []),
        ("refused", "green", [True]),
        ("uncached", "green", [True]),
        ("uncached", "refused", [False]),
        ("wrong", "wrong", [True]),  # is never right
        ("sites", "green", [True]),
        ("crash", "crash", [True]),
        ("timeout", "refused", [True]),
        ("unbuildable", "green", [True]),
    ],
)
def test_verdicts(now: str, before: str, worse: list[bool]) -> None:
    assert surprises(found(now), {"verdict": before}) == worse


def test_a_family_nobody_expected_need_only_not_be_wrong() -> None:
    assert expected.surprises([found("refused")], {}) == []
    assert expected.surprises([found("wrong")], {})[0].worse


def test_an_engine_that_is_lost() -> None:
    before = {"verdict": "green", "engine": "built"}
    assert surprises(found(engine={"verdict": "built"}), before) == []
    assert surprises(found(engine={"verdict": "refused", "reason": "No."}), before) == [True]
    assert surprises(found(), before) == []  # not tried


def test_rope_types() -> None:
    before = {"verdict": "green", "ropes": ["yarn"]}
    result = {"verdict": "green", "reason": ""}
    assert surprises(found(ropes={"yarn": result}), before) == []
    assert surprises(found(ropes={"yarn": result, "linear": result}), before) == [False]
    assert surprises(found(ropes={"yarn": {"verdict": "refused", "reason": "No."}}), before) == [True]
    assert surprises(found(ropes={"linear": {"verdict": "wrong", "reason": "No."}}), before) == [True]


def test_published_rules() -> None:
    before = {"verdict": "green", "published": ["Llama 3.1"]}
    result = {"verdict": "green", "reason": ""}
    assert surprises(found(published={"Llama 3.1": result}), before) == []
    assert surprises(found(published={"Llama 3.1": {"verdict": "refused", "reason": "No."}}), before) == [True]
    assert surprises(found(published={"InternLM2": {"verdict": "wrong", "reason": "No."}}), before) == [True]


def test_of_published_rules_what_was_not_tried_stays_expected(tmp_path: Path) -> None:
    path = tmp_path / "expected.json"
    for name in ("Llama 3.1", "InternLM2"):
        expected.write([found(published={name: {"verdict": "green"}})], path)
    assert expected.read(path)["llama"]["published"] == ["InternLM2", "Llama 3.1"]


def test_what_is_written_is_expected(tmp_path: Path) -> None:
    one = found(engine={"verdict": "built"}, ropes={"yarn": {"verdict": "green"}, "linear": {"verdict": "unaccepted"}})
    expected.write([one], path := tmp_path / "expected.json")
    wanted = {"verdict": "green", "layouts": [], "rules": [], "caches": [], "engine": "built", "ropes": ["yarn"]}
    assert expected.read(path) == {"llama": wanted}
    expected.write([found("refused")], path)
    assert expected.read(path)["llama"]["verdict"] == "refused"
    assert expected.read(path)["llama"]["engine"] == "built"


@pytest.mark.parametrize(("verdict", "code"), [("green", 0), ("refused", 1), ("wrong", 1)])
def test_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str, code: int) -> None:
    monkeypatch.setattr(expected, "read", lambda: {"llama": {"verdict": "green"}})
    styles = {"tables": StyleResult("tables", verdict, sites=4)}
    found(verdict, versions=record.versions(), code=record.code_digest(), styles=styles).write(tmp_path)
    arguments = ["llama", "--styles", "tables", "--strict", "--out", str(tmp_path)]
    result = CliRunner().invoke(__main__.main, arguments)
    assert result.exit_code == code
    assert ("WORSE: llama" in result.output) == bool(code)


@pytest.mark.parametrize("kind", expected.KINDS)
def test_the_subset_has_every_kind_there_is(kind: str) -> None:
    from conformance.families.subset import SUBSET

    known = expected.read()
    of_all = {one for found in known.values() for one in found.get(kind, ())}
    of_some = {one for name in SUBSET for one in known.get(name, {}).get(kind, ())}
    assert of_all
    assert of_all == of_some


@pytest.mark.slow
def test_the_list_is_of_families_there_are() -> None:
    from conformance.families import census

    known = {family.name for family in census.families()}
    assert set(expected.read()) <= known
