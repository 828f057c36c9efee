"""An engine of a family, or the reason why there is none."""

import json
from pathlib import Path

import pytest

from conformance.families.census import select
from conformance.families.engines import CAPABILITIES, judge_engine
from rope_deploy import api
from rope_deploy.errors import EnvironmentMissing, GraphRefused, UsageError

LLAMA = select(["llama"])[0]


def judged(work: Path) -> dict:
    judge_engine(LLAMA, work)
    return json.loads((work / "engine.json").read_text())


@pytest.mark.slow
def test_an_engine_is_built_from_the_artifacts_there_are(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from conformance.families.tiny import tiny_model

    tiny_model(LLAMA).save_pretrained(tmp_path / "model")
    api.export(str(tmp_path / "model"), tmp_path / "exported" / "tables")
    found = judged(tmp_path)
    assert (found["verdict"], found["style"]) == ("built", "tables")
    assert tuple(found["capabilities"]) == CAPABILITIES
    assert found["bytes"] > 10_000


def test_without_artifacts_it_is_built_from_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def build(source, target, **options):
        asked.append((source, options["style"], options["flavor"], options["capabilities"]))
        raise UsageError("Not today.")

    monkeypatch.setattr(api, "build", build)
    judged(tmp_path)
    assert asked == [(tmp_path / "model", "auto", "rtx", CAPABILITIES)]
    assert (tmp_path / "model" / "config.json").exists()


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (GraphRefused("Operator X has no layer.", of_rotation=False), "refused"),
        (UsageError("No profile fits."), "refused"),
        (EnvironmentMissing("tensorrt-rtx is not installed."), "needs-package"),
        (KeyError("x"), "crash"),
    ],
)
def test_why_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, verdict: str) -> None:
    def failing(*_, **__):
        raise error

    (tmp_path / "exported").mkdir()
    monkeypatch.setattr(api, "build", failing)
    found = judged(tmp_path)
    assert found["verdict"] == verdict
    assert str(error).splitlines()[0] in found["reason"]
    if isinstance(error, GraphRefused):
        assert found["of_rotation"] is False
