"""`rope-deploy bench`: how fast an artifact runs, next to PyTorch and to other styles."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from rope_deploy.cli.check import split_names
from rope_deploy.cli.common import deliver, json_option, print_json, report_option, require_places
from rope_deploy.cli.progress import shown_steps

GATE_OPTIONS = ("max_slowdown", "other_machine", "unsettled")  # what judges by a baseline


def lengths(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[int, ...]:
    """Whole numbers from 1 on, given by repeating an option, by commas, or both."""
    words = split_names(context, parameter, value)
    if wrong := [word for word in words if not (word.isdecimal() and int(word))]:
        raise click.BadParameter(f"{', '.join(wrong)}: give whole numbers from 1 on, such as 128,512,2048.")
    return tuple(map(int, words))


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    default=("ort",),
    show_default=True,
    callback=split_names,
    metavar="NAMES",
    help="Who takes part: torch, torch-compile, ort, trt, separated by commas.",
)
@click.option("--model", metavar="MODEL", help="The PyTorch model, if it is not where it was at export time.")
@click.option("--engine", metavar="FILE", type=click.Path(path_type=Path), help="The engine, for runtime trt.")
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    default=("128",),
    show_default=True,
    callback=lengths,
    metavar="LENGTHS",
    help="Tokens of the prefill; several lengths, separated by commas, give prefill by length and decode by context.",
)
@click.option("--new", type=click.IntRange(min=0), default=16, show_default=True, help="Tokens decoded after each.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Interleaved rounds.")
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
    default=1.2,
    show_default=True,
    metavar="FACTOR",
    help="How many times what it was in the baseline a ratio may be, beyond what noise explains.",
)
@click.option(
    "--other-machine",
    type=click.Choice(["refuse", "skip", "compare"]),
    default="refuse",
    show_default=True,
    help="What to do with a baseline of another machine.",
)
@click.option(
    "--unsettled",
    type=click.Choice(["pass", "fail"]),
    default="pass",
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
    runtimes: tuple[str, ...],
    model: str | None,
    engine: Path | None,
    prompts: tuple[int, ...],
    new: int,
    rounds: int,
    threads: int | None,
    profile: bool,
    baseline: Path | None,
    max_slowdown: float,
    other_machine: str,
    unsettled: str,
    trust_remote_code: bool,
    reports: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Time prefill and decode in interleaved rounds, so that the ratios hold on a busy machine too.

    DIR is an artifact, or a folder of artifacts that are then timed side by side.
    """
    from rope_deploy import api
    from rope_deploy.report import render

    given = [name for name in GATE_OPTIONS if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given and baseline is None:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{names} without --baseline FILE: there is nothing to hold this run against.")
    require_places(reports, "bench")
    if baseline is not None and baseline.resolve() in {path.resolve() for path in reports}:
        raise click.UsageError(f"--report would replace the baseline {baseline}: give the report another name.")
    with shown_steps() as progress:
        result = api.bench(
            folder,
            runtimes=runtimes,
            model=model,
            engine=engine,
            prompt=prompts,
            new=new,
            rounds=rounds,
            threads=threads,
            profile=profile,
            baseline=baseline,
            max_slowdown=max_slowdown,
            other_machine=other_machine,
            unsettled=unsettled,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if as_json:
        deliver(context, result, reports, lambda found: print_json(render(found, "json")))
    else:
        from rope_deploy.report.terminal import show

        deliver(context, result, reports, show)
