"""Every configuration that is shipped, carried out on a tiny model of its family."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from rope_deploy.config import RunConfig, load_config, with_source
from rope_deploy.results.records import Report
from rope_deploy.runs.ci import run_config
from tests import tiny
from tests.families.compare import CASES, Case, Session, Stock, difference
from tests.sweep import swept

CONFIGS = sorted((Path(__file__).parents[2] / "export_configs").glob("*.toml"))
FEW = ("smollm2",)
STYLES = [(path.stem, style) for path in CONFIGS for style in load_config(path).export.styles]


@dataclass(frozen=True)
class Run:
    """What a configuration came to: its report, the artifact of each style, and the model in transformers."""

    report: Report
    folders: dict[str, Path]
    stock: Stock


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Carry out a configuration once, however many tests look at it."""

    @cache
    def of(name: str) -> Run:
        config = load_config(CONFIGS[0].with_name(f"{name}.toml"))
        dtype = config.model.dtype
        source = tiny.save_family(name, tmp_path_factory.mktemp(f"{name}-source"), dtype=dtype)
        report, folder = run_config(quick(with_source(config, str(source)), tmp_path_factory.mktemp(name)))
        folders = {record.style: Path(record.folder) for record in report.exports}
        assert set(folders) == {style for stem, style in STYLES if stem == name}
        assert all(path.parent == folder for path in folders.values())
        return Run(report, folders, Stock(source, dtype))

    return of


def quick(config: RunConfig, folder: Path) -> RunConfig:
    """The same run without the engine, which has tests of its own, and without long prompts."""
    bench = config.bench and replace(config.bench, prompt=8, new=min(config.bench.new, 1), rounds=1)
    generate = config.generate and replace(config.generate, prompts=("ab",), new_tokens=4)
    output = replace(config.output, folder=str(folder))
    return replace(config, build=None, bench=bench, generate=generate, output=output)


def test_every_configuration_has_a_tiny_family():
    assert {path.stem for path in CONFIGS} <= set(tiny.FAMILIES)
    assert len(CONFIGS) >= 9


@pytest.mark.parametrize("name", swept((path.stem for path in CONFIGS), FEW))
def test_the_run_passes(run, name):
    report = run(name).report
    assert [record for record in (*report.checks, *report.gates) if record.verdict == "failed"] == []
    assert report.verdict == "passed"
    assert {record.verdict for record in report.gates} == {"passed"}
    coverage = [record for record in report.checks if record.case == "coverage"]
    assert [record.verdict for record in coverage] == ["passed"] * len(report.exports)
    assert all(generation.agrees in (True, None) for generation in report.generations)


@pytest.mark.parametrize(("name", "style"), swept(STYLES, FEW))
def test_the_graph_answers_as_the_model_does(run, name, style):
    found = run(name)
    session = Session(found.folders[style])
    tolerance = session.manifest.tolerances.logits
    cases = session.cases()
    assert len(cases) >= (2 if session.manifest.task == "encoder" else 5)
    wrong = {
        case.name: error
        for case in cases
        if not (error := difference(case, session.answers(case), found.stock.answers(case))) <= tolerance
    }
    assert not wrong


@pytest.mark.parametrize(("name", "style"), swept(STYLES, FEW))
def test_a_model_that_stands_elsewhere_is_told_apart(run, name, style):
    """The failing twin: the same tokens at every second position, or for an encoder in another order."""
    found = run(name)
    session = Session(found.folders[style])
    case = Case("every third position", (12,))
    if session.manifest.task == "encoder":
        theirs = [answer[:, ::-1] for answer in found.stock.answers(case)]
    else:
        theirs = found.stock.answers(replace(case, stride=2))
    assert difference(case, session.answers(case), theirs) > 2 * session.manifest.tolerances.logits


@pytest.mark.parametrize("name", swept((path.stem for path in CONFIGS), FEW))
def test_no_angle_is_computed_at_run_time_and_nothing_was_found_wrong(run, name):
    for record in run(name).report.exports:
        assert record.runtime_cos_sin == 0
        assert record.findings == ()
        assert record.sites >= 4


def test_every_case_is_run_by_some_style(run):
    """No case is filtered away for everybody."""
    found = run("smollm2")
    seen = {case.name for folder in found.folders.values() for case in Session(folder).cases()}
    assert seen == {case.name for case in CASES}
