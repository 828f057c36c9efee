"""`rope-deploy check`: an artifact against its PyTorch model."""

from __future__ import annotations

from pathlib import Path

import click

from rope_deploy.cli.audit_options import AuditOptions, audit_options
from rope_deploy.cli.common import accept_option, deliver, json_option, print_json, report_option, require_places
from rope_deploy.cli.explain import explain_option
from rope_deploy.cli.progress import shown_steps


def split_names(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Names given by repeating an option, by commas, or both."""
    return tuple(name.strip() for text in value for name in text.split(",") if name.strip())


@click.command()
@click.argument("folder", metavar="DIR|FILE.onnx", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    default=("ort",),
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
    default=False,
    help="A few cases that still meet every mistake that has a name, or all of them (the default).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the tokens.")
@click.option(
    "--no-reference",
    is_flag=True,
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
    runtimes: tuple[str, ...],
    model: str | None,
    engine: Path | None,
    cases: tuple[str, ...],
    quick: bool,
    seed: int,
    no_reference: bool,
    accept: tuple[str, ...],
    ignore_hashes: bool,
    trust_remote_code: bool,
    allow_limits: tuple[str, ...],
    audit: AuditOptions | None,
    reports: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare an artifact with PyTorch: prefill, chunks, decode, padding, positions up to the table's end.

    DIR is an artifact, or a folder of artifacts. The logits and the rotated q and k of every layer are compared,
    and each rotation with an fp64 one of its own input. Exit code 1 if anything differs by more than the
    tolerances of its dtype. The manifest describes: what it says is held against the graph and the model, and an
    artifact whose manifest is not true is refused.

    With --audit nothing is run: the tables and places of the rotations are compared with the model's config.json,
    in seconds, also for a FILE.onnx by any other exporter.

    What is wrong is named by a code; `--explain CODE` says what it means, and needs no DIR.
    """
    from rope_deploy import api
    from rope_deploy.report import render

    require_places(reports, "check" if audit is None else "audit")
    with shown_steps() as progress:
        result = (
            audit.run(folder, ignore_hashes, progress)
            if audit is not None
            else api.check(
                folder,
                runtimes=runtimes,
                model=model,
                engine=engine,
                cases=cases,
                quick=quick,
                seed=seed,
                ignore_hashes=ignore_hashes,
                reference=not no_reference,
                trust_remote_code=trust_remote_code,
                accept=accept,
                allow_limits=allow_limits,
                progress=progress,
            )
        )
    if as_json:
        deliver(context, result, reports, lambda found: print_json(render(found, "json")))
    else:
        from rope_deploy.report.terminal import show

        deliver(context, result, reports, show)
