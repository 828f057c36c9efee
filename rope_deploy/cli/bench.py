"""`rope-deploy bench`: how fast an artifact runs, next to PyTorch and to other styles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from rope_deploy.cli.common import json_option, report_option, require_writable, show_and_write, split_names
from rope_deploy.cli.progress import shown_steps
from rope_deploy.options import BenchOptions, OtherMachine, Unsettled
from rope_deploy.runtime_registry import TIMED

GATE_OPTIONS = ("max_slowdown", "other_machine", "unsettled")  # how a baseline is judged by


def lengths(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[int, ...]:
    """Whole numbers from 1 on, given by repeating an option, by commas, or both."""
    texts = split_names(context, parameter, value)
    if wrong := [text for text in texts if not (text.isdecimal() and int(text))]:
        raise click.BadParameter(f"{', '.join(wrong)}: give whole numbers from 1 on, such as 128,512,2048.")
    return tuple(map(int, texts))


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    default=BenchOptions.runtimes,
    show_default=True,
    callback=split_names,
    metavar="NAMES",
    help=f"Who takes part: {', '.join(TIMED)}, separated by commas.",
)
@click.option("--model", metavar="MODEL", help="The PyTorch model, if it is not where it was at export time.")
@click.option("--engine", metavar="FILE", type=click.Path(path_type=Path), help="The engine, for runtime trt.")
@click.option(
    "--prompt",
    multiple=True,
    default=tuple(map(str, BenchOptions.prompt)),
    show_default=True,
    callback=lengths,
    metavar="LENGTHS",
    help="Tokens of the prefill; several lengths, separated by commas, give prefill by length and decode by context.",
)
@click.option(
    "--new", type=click.IntRange(min=0), default=BenchOptions.new, show_default=True, help="Tokens decoded after each."
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=BenchOptions.rounds, show_default=True, help="Interleaved rounds."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each runtime. Default: each chooses.")
@click.option(
    "--profile",
    is_flag=True,
    help="Also measure memory and the rotation's share of the time, in a process for each contestant.",
)
@click.option(
    "--baseline",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="An earlier JSON report; exit code 1 if a ratio has grown by more than --max-slowdown.",
)
@click.option(
    "--max-slowdown",
    type=click.FloatRange(min=0, min_open=True),
    default=BenchOptions.max_slowdown,
    show_default=True,
    metavar="FACTOR",
    help="How many times what it was in the baseline a ratio may be, beyond what noise explains.",
)
@click.option(
    "--other-machine",
    type=click.Choice(get_args(OtherMachine)),
    default=BenchOptions.other_machine,
    show_default=True,
    help="What to do with a baseline of another machine.",
)
@click.option(
    "--unsettled",
    type=click.Choice(get_args(Unsettled)),
    default=BenchOptions.unsettled,
    show_default=True,
    help="What becomes of a ratio that other processes keep from being judged.",
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@report_option
@json_option
@click.pass_context
def bench(
    context: click.Context,
    folder: Path,
    baseline: Path | None,
    reports: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Time prefill and decode in interleaved rounds, so that the ratios hold on a busy machine too.

    DIR is an artifact, or a folder of artifacts that are then timed side by side.
    """
    from rope_deploy import api

    given = [name for name in GATE_OPTIONS if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given and baseline is None:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{names} without --baseline FILE: there is nothing to hold this run against.")
    require_writable(reports, "bench")
    if baseline is not None and baseline.resolve() in {path.resolve() for path in reports}:
        raise click.UsageError(f"--report would replace the baseline {baseline}: give the report another name.")
    with shown_steps() as progress:
        result = api.bench(folder, baseline=baseline, progress=progress, **options)
    show_and_write(context, result, reports, as_json=as_json)
