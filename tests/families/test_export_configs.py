"""Every configuration that is shipped, carried out on a tiny model of its family."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from rope_deploy import api
from rope_deploy.config import RunConfig, load_config
from rope_deploy.report.records import ExportRecord
from tests import tiny
from tests.families.compare import CASES, Case, Session, Stock, difference

CONFIGS = sorted((Path(__file__).parents[2] / "export_configs").glob("*.toml"))
STYLES = [(path.stem, style) for path in CONFIGS for style in load_config(path).export.styles]


@dataclass(frozen=True)
class Exported:
    config: RunConfig
    source: Path
    folders: dict[str, Path]
    records: dict[str, ExportRecord]
    stock: Stock


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Export a configuration's family once, however many tests look at it."""

    @cache
    def of(name: str) -> Exported:
        config = load_config(CONFIGS[0].with_name(f"{name}.toml"))
        source = tiny.save_family(name, tmp_path_factory.mktemp(f"{name}-source"), dtype=config.model.dtype)
        out = tmp_path_factory.mktemp(name) / "artifact"
        settings = {key: getattr(config.export, key) for key in SETTINGS}
        records = api.export(str(source), out, dtype=config.model.dtype, **settings)
        folders = {record.style: Path(record.folder) for record in records}
        stock = Stock(source, config.model.dtype)
        return Exported(config, source, folders, {record.style: record for record in records}, stock)

    return of


SETTINGS = (
    "styles",
    "opset",
    "max_position",
    "angles",
    "cache",
    "fused_attention",
    "allow_unmatched",
)


def test_every_configuration_has_a_tiny_family():
    assert {path.stem for path in CONFIGS} <= set(tiny.FAMILIES)
    assert len(CONFIGS) >= 9


@pytest.mark.parametrize(("name", "style"), STYLES)
def test_the_graph_answers_as_the_model_does(exported, name, style):
    run = exported(name)
    session = Session(run.folders[style])
    tolerance = session.manifest.tolerances.logits
    cases = session.cases()
    assert len(cases) >= (2 if session.manifest.task == "encoder" else 5)
    wrong = {
        case.name: error
        for case in cases
        if not (error := difference(case, session.answers(case), run.stock.answers(case))) <= tolerance
    }
    assert not wrong


@pytest.mark.parametrize(("name", "style"), STYLES)
def test_a_model_that_stands_elsewhere_is_told_apart(exported, name, style):
    """The failing twin: the same tokens at every second position, or for an encoder in another order."""
    run = exported(name)
    session = Session(run.folders[style])
    case = Case("every third position", (12,))
    if session.manifest.task == "encoder":
        theirs = [answer[:, ::-1] for answer in run.stock.answers(case)]
    else:
        theirs = run.stock.answers(replace(case, stride=2))
    assert difference(case, session.answers(case), theirs) > 2 * session.manifest.tolerances.logits


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_no_angle_is_computed_at_run_time_and_nothing_was_found_wrong(exported, name):
    for record in exported(name).records.values():
        assert record.runtime_cos_sin == 0
        assert record.findings == ()
        assert record.sites >= 4


def test_every_case_is_run_by_some_style(exported):
    """No case is filtered away for everybody."""
    run = exported("smollm2")
    seen = {case.name for folder in run.folders.values() for case in Session(folder).cases()}
    assert seen == {case.name for case in CASES}
