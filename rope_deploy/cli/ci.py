"""`rope-deploy ci`: one configuration file, one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rope_deploy.cli.common import force_option, json_option, print_json
from rope_deploy.cli.console import echo
from rope_deploy.cli.progress import shown_steps


@click.command()
@click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option("--model", "source", metavar="MODEL", help="Use this model instead of the one named in the file.")
@click.option(
    "--update-baseline",
    is_flag=True,
    help="Write the latencies of this run to the baseline that [bench] names, instead of judging by it.",
)
@force_option
@json_option
@click.pass_context
def ci(context: click.Context, config: Path, as_json: bool, **options: Any) -> None:
    """Export, build, check, time and report as a configuration file says, and exit with 1 if anything fails.

    \b
    rope-deploy ci export_configs/smollm2.toml
    """
    from rope_deploy import api
    from rope_deploy.report import render

    with shown_steps() as progress:
        result, files = api.run_ci(config, progress=progress, **options)
    if as_json:
        document = json.loads(render(result, "json"))
        print_json({**document, "files": {name: str(path) for name, path in files.items()}})
    else:
        from rope_deploy.report.terminal import show

        show(result)
        for name, path in files.items():
            echo(f"  {name:9} {path}")
    if result.verdict == "failed":
        context.exit(1)
