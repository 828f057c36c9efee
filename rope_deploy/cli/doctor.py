"""`rope-deploy doctor`: what is installed, what works, what to install."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rope_deploy.cli.common import json_option, print_json
from rope_deploy.cli.console import echo
from rope_deploy.cli.progress import shown_steps

if TYPE_CHECKING:
    from rope_deploy.doctor import Examination

MARKS = {"works": "✓", "broken": "✗", "missing": "–", "blocked": "–"}


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Make every library do a little of what it is needed for, and say what to install.

    Exit code 3 if something required is missing or broken.
    """
    from rope_deploy import api
    from rope_deploy.doctor import healthy

    with shown_steps() as progress:
        found = api.doctor(progress=lambda examination: progress(f"{examination.name}: {examination.state}"))
    if as_json:
        print_json([asdict(examination) for examination in found])
    else:
        for examination in found:
            echo(_description(examination))
    if not healthy(found):
        context.exit(3)


def _description(found: Examination) -> str:
    optional = "" if found.required else " (optional)"
    line = f"{MARKS[found.state]} {found.name} {found.version}{optional}: {found.state}".replace("  ", " ")
    details = [text for text in (found.purpose, found.detail, found.todo if found.state != "works" else "") if text]
    return "\n".join([line, *(f"    {text}" for text in details)])
