"""Options and output that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output, and nothing else there."
)
force_option = click.option("--force", is_flag=True, help="Replace the output if it exists.")
report_option = click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result to FILE; its suffix chooses the format: .json, .xml (JUnit), .md or .html. Repeatable.",
)


def print_json(document: str | dict[str, Any] | list[Any]) -> None:
    """Print a JSON document; text is taken to be one already.

    A command prints one. If its verdict is "failed" it prints the result here and ends with `ctx.exit(1)`:
    raising would make the entry point print an error document as well.
    """
    click.echo(document.rstrip() if isinstance(document, str) else json.dumps(document, indent=2))
