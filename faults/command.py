"""Run the suite, or a part of it, and say what share of the planted faults was caught and named."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from benchmarks.common import Machine
from faults.matrix import DTYPES, Trial, everything, planted, real
from faults.mistakes import FAULTS, Fault
from faults.models import FAMILIES, REAL
from faults.workshop import Model, Workshop
from rope_deploy.artifact import new_file

COMBINATIONS, SEEDS = 1, 4


@click.command(help=__doc__)
@click.option("--all", "whole", is_flag=True, help="Every fault in every family, and untouched runs.")
@click.option("--model", "models", multiple=True, type=click.Choice(sorted(REAL)), help="A model with trained weights.")
@click.option("--family", "families", multiple=True, type=click.Choice(sorted(FAMILIES)))
@click.option("--fault", "faults", multiple=True, help="An id, or a code such as RD301.")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(DTYPES))
@click.option(
    "--combinations", default=COMBINATIONS, show_default=True, help="Styles, layers and means for each fault and model."
)
@click.option("--seeds", default=SEEDS, show_default=True, help="Untouched runs of each artifact.")
@click.option("--report", type=click.Path(path_type=Path), help="Where to write what was found, as JSON.")
def main(
    whole: bool,
    models: tuple[str, ...],
    families: tuple[str, ...],
    faults: tuple[str, ...],
    dtypes: tuple[str, ...],
    combinations: int,
    seeds: int,
    report: Path | None,
) -> None:
    if not whole and not (models or families or faults):
        raise click.UsageError("Give --all, or a --model, --family or --fault to look at.")
    machine = Machine()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        workshop = Workshop(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutation-"))))
        if whole:
            trials = everything(workshop, seeds, combinations, _say)
        elif models:
            chosen, types = _chosen(faults), dtypes or DTYPES
            trials: list[Trial] = []
            for model in (Model(name, dtype) for name in models for dtype in types):
                trials += real(workshop, model, chosen, seeds, combinations, _say)
                _write(report, machine, summary(trials))  # the next takes as long again
        else:
            trials = _some(workshop, families or tuple(FAMILIES), _chosen(faults), dtypes or DTYPES, combinations)
    found = summary(trials)
    _write(report, machine, found)
    click.echo(_text(found))
    sys.exit(0 if reached(found) else 1)


def _write(report: Path | None, machine: Machine, found: dict[str, Any]) -> None:
    if report is not None:
        with new_file(report) as path:
            path.write_text(
                json.dumps({"benchmark": "mutation", "machine": machine.describe(), **found}, indent=2) + "\n"
            )


def _some(
    workshop: Workshop, families: Sequence[str], faults: Sequence[Fault], dtypes: Sequence[str], combinations: int
) -> list[Trial]:
    trials = []
    for model in (Model(family, dtype) for family in families for dtype in dtypes):
        for trial in planted(workshop, model, faults, combinations):
            trials.append(trial)
            _say(trial)
        workshop.forget(model)
    return trials


def _chosen(names: Sequence[str]) -> list[Fault]:
    chosen = [fault for fault in FAULTS if not names or fault.id in names or fault.code in names]
    if not chosen:
        raise click.UsageError(f"No such fault. There are {', '.join(fault.id for fault in FAULTS)}.")
    return chosen


def _say(trial: Trial) -> None:
    """What went wrong, on stderr while the suite runs."""
    if not trial.named:
        miss = "NOT NAMED" if trial.caught else "NOT CAUGHT"
        wanted = f" ({trial.code})" if trial.fault else ""
        click.echo(
            f"{'FALSE ALARM' if not trial.fault else miss} {trial.text}{wanted}: {trial.message[:400]}", err=True
        )


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Figures, by code and by style, and every trial that did not come out as it should."""
    mutants, sound = [t for t in trials if t.fault], [t for t in trials if not t.fault]

    def shares(name: str) -> dict[str, dict[str, int]]:
        groups: dict[str, list[Trial]] = {}
        for trial in mutants:
            groups.setdefault(str(getattr(trial, name)), []).append(trial)
        return {key: _counts(group) for key, group in sorted(groups.items())}

    return {
        "planted": _counts(mutants),
        "untouched": {"runs": len(sound), "false_alarms": sum(trial.caught for trial in sound)},
        "untouched_by_style": {
            f"{dtype} {style}": {
                "runs": len(group := [t for t in sound if (t.dtype, t.style) == (dtype, style)]),
                "false_alarms": sum(trial.caught for trial in group),
            }
            for dtype, style in sorted({(t.dtype, t.style) for t in sound})
        },
        "by_dtype_and_style": {
            f"{dtype} {style}": _counts([t for t in mutants if (t.dtype, t.style) == (dtype, style)])
            for dtype, style in sorted({(t.dtype, t.style) for t in mutants})
        },
        "by_code": shares("code"),
        "by_style": shares("style"),
        "by_dtype": shares("dtype"),
        "by_family": shares("family"),
        "by_fault": shares("fault"),
        "in_one_layer": _counts([t for t in mutants if len(t.layers) == 1]),
        "means": dict(Counter(trial.means for trial in mutants)),
        "missed": [trial.as_json() for trial in trials if not trial.named],
        "check_seconds": round(sum(trial.seconds for trial in trials), 1),
    }


def _counts(trials: Sequence[Trial]) -> dict[str, int]:
    return {
        "mutants": len(trials),
        "caught": sum(trial.caught for trial in trials),
        "named": sum(trial.named for trial in trials),
    }


def reached(found: dict[str, Any]) -> bool:
    """All caught, 95 % named with code and layers, no false alarm."""
    planted = found["planted"]
    return (
        planted["caught"] == planted["mutants"]
        and planted["named"] >= 0.95 * planted["mutants"]
        and found["untouched"]["false_alarms"] == 0
    )


def _text(found: dict[str, Any]) -> str:
    planted, sound = found["planted"], found["untouched"]
    number = max(1, planted["mutants"])
    lines = [
        f"{planted['mutants']} mutants: {planted['caught'] / number:.1%} caught, "
        f"{planted['named'] / number:.1%} named with the right code and layers",
        f"{sound['runs']} untouched runs: {sound['false_alarms']} false alarms",
    ]
    lines += [
        f"  {code}: {counts['named']} of {counts['mutants']} named"
        + (f", {counts['mutants'] - counts['caught']} not caught" if counts["caught"] < counts["mutants"] else "")
        for code, counts in found["by_code"].items()
    ]
    return "\n".join(lines)
