"""`rope-deploy check`: an artifact against its PyTorch model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rope_deploy.cli.audit_options import audit_options
from rope_deploy.cli.common import (
    accept_option,
    json_option,
    negated_flag,
    report_option,
    require_writable,
    show_and_write,
    split_names,
)
from rope_deploy.cli.explain import explain_option
from rope_deploy.cli.progress import shown_steps
from rope_deploy.options import CheckOptions


@click.command()
@click.argument("folder", metavar="DIR|FILE.onnx", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    default=CheckOptions.runtimes,
    show_default=True,
    callback=split_names,
    metavar="NAMES",
    help="Who is compared with PyTorch: ort, trt, or both, separated by commas.",
)
@click.option("--model", metavar="MODEL", help="The PyTorch model, if it is not where it was at export time.")
@click.option("--engine", metavar="FILE", type=click.Path(path_type=Path), help="The engine, for runtime trt.")
@click.option(
    "--case", "cases", multiple=True, callback=split_names, metavar="ID", help="Run only this case. Repeatable."
)
@click.option(
    "--quick/--full",
    default=CheckOptions.quick,
    help="A few cases that still meet every mistake that has a name, or all of them (the default).",
)
@click.option("--seed", type=int, default=CheckOptions.seed, show_default=True, help="Seed of the tokens.")
@negated_flag(
    "--no-reference",
    "reference",
    help="Judge the rotations by the manifest's rules alone; loads no PyTorch. The report says what was not seen.",
)
@click.option("--ignore-hashes", is_flag=True, help="Check the files although they are not those that were exported.")
@accept_option
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run Python code that comes with the model, and a factory that the manifest names.",
)
@click.option(
    "--allow-limit",
    "allow_limits",
    multiple=True,
    callback=split_names,
    metavar="NAME",
    help="A limit of the artifact that is known of, e.g. tokens: see `--explain RD608`. Repeatable.",
)
@audit_options
@explain_option
@report_option
@json_option
@click.pass_context
def check(
    context: click.Context,
    folder: Path,
    audit: dict[str, Any] | None,
    reports: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Compare an artifact with PyTorch: prefill, chunks, decode, padding, positions up to the table's end.

    DIR is an artifact, or a folder of artifacts. The logits and the rotated q and k of every layer are compared,
    and each rotation with an fp64 one of its own input. Exit code 1 if anything differs by more than the
    tolerances of its dtype. The manifest describes: what it says is held against the graph and the model, and an
    artifact whose manifest is not true is refused.

    With --audit nothing is run: the tables and sites of the rotations are compared with the model's config.json,
    in seconds, also for a FILE.onnx by any other exporter.

    What is wrong is named by a code; `--explain CODE` says what it means, and needs no DIR.
    """
    from rope_deploy import api

    require_writable(reports, "check" if audit is None else "audit")
    with shown_steps() as progress:
        result = (
            api.check(folder, progress=progress, **options)
            if audit is None
            else api.audit(folder, progress=progress, ignore_hashes=options["ignore_hashes"], **audit)
        )
    show_and_write(context, result, reports, as_json=as_json)
