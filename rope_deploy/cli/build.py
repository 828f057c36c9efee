"""`rope-deploy build`: an artifact or ONNX file in, a TensorRT engine and its manifest out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from rope_deploy.cli.common import accept_option, force_option, json_option, print_json, split_at_commas
from rope_deploy.cli.console import echo, plain
from rope_deploy.options import AUTO, FlavorName
from rope_deploy.styles import STYLES

if TYPE_CHECKING:
    from rope_deploy.results.records import EngineRecord
    from rope_deploy.trt import Progress

PLAIN_DEPTH = 1  # without a terminal only the outer phases are worth a line


@click.command()
@click.argument("source", metavar="DIR|FILE.onnx|MODEL", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    metavar="FILE.engine",
    type=click.Path(path_type=Path),
    help="The engine.",
)
@click.option(
    "--style",
    type=click.Choice([AUTO, *STYLES]),
    help="Which one of several styles in DIR; auto: the best that the flavour accepts. With it a MODEL is taken too, "
    "and exported to FILE.engine.artifact.",
)
@click.option(
    "--flavor",
    type=click.Choice(get_args(FlavorName)),
    help="Default: tensorrt if it and a GPU are here, else rtx, which needs no GPU to build.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    callback=split_at_commas,
    metavar="X.Y",
    help="GPUs to build for, e.g. 8.9; repeat it or separate by commas. Default for rtx: 8.0 and later.",
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="NAME=MIN:OPT:MAX",
    help="Sizes of an axis (batch=1:1:8) or shapes of an input (input_ids=1x1:1x128:4x512). NAME@prefill and "
    "NAME@decode change one profile; without @ the options make a single profile. Repeatable.",
)
@click.option(
    "--plugin", metavar="LIB.so", type=click.Path(path_type=Path), help="Custom operators, for the tensorrt flavour."
)
@click.option(
    "--timing-cache",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the tensorrt flavour keeps its measurements. Default: FILE.engine.cache.",
)
@click.option("--taps", is_flag=True, help="Also return q and k of every layer, for `check`: slower, not for service.")
@accept_option
@force_option
@json_option
def build(source: Path, target: Path, as_json: bool, **options: Any) -> None:
    """Compile an artifact or ONNX file into a TensorRT engine.

    DIR is an artifact or, with --style, a folder that has one of each style in it.
    Profiles are derived from the artifact's manifest; a bare ONNX file needs a --profile for every dynamic axis.
    Beside the engine, FILE.engine.json says what it was built from, for which GPUs and shapes, and with what.

    \b
    rope-deploy build smollm2/tables -o smollm2.engine --flavor rtx --compute-capability 8.0,8.9
    rope-deploy build smollm2 -o smollm2.engine --style auto --flavor rtx
    rope-deploy build smollm2/tables -o long.engine --profile total@decode=1:512:8192 --profile batch@decode=1:1:16
    """
    from rope_deploy import api

    with shown_progress() as progress:
        record = api.build(source, target, progress=progress, **options)
    if as_json:
        print_json(asdict(record))
    else:
        echo(_summary(record))


def _summary(record: EngineRecord) -> str:
    return (
        f"Built {record.path}: {record.bytes / 1e6:.1f} MB in {record.seconds:.1f} s, "
        f"flavour {record.flavor}, compute capability {', '.join(record.capabilities)}.\n{record.message}"
    )


@contextmanager
def shown_progress() -> Iterator[Callable[[Progress], None]]:
    """Show what the builder does on standard error: one live line on a terminal, else a line for each phase."""
    if not sys.stderr.isatty():
        yield _print_phase
        return
    from rich.console import Console

    with Console(stderr=True).status("Starting") as status:
        yield lambda progress: status.update(plain(_phase_text(progress)))


def _print_phase(progress: Progress) -> None:
    if progress.depth <= PLAIN_DEPTH and progress.done == 0:
        echo(progress.phase, err=True)


def _phase_text(progress: Progress) -> str:
    return f"{progress.phase} {progress.done}/{progress.steps}" if progress.steps else progress.phase
