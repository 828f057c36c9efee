"""Options and output that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from rope_deploy.cli.console import echo_json

if TYPE_CHECKING:
    from rope_deploy.results.records import Kind, Report

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output, and nothing else there."
)


accept_option = click.option(
    "--accept",
    multiple=True,
    metavar="CODE",
    help="Go on although this mistake, e.g. RD301, sets the rotation apart from the configuration. Repeatable.",
)
force_option = click.option("--force", is_flag=True, help="Replace the output if it exists.")
report_option = click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result to FILE; its suffix chooses the format: .json, .xml (JUnit), .sarif, .md or .html.",
)


def split_names(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Split names that were given by repeating an option, by commas, or both."""
    return tuple(name.strip() for text in value for name in text.split(",") if name.strip())


def split_at_commas(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Split likewise, and keep an empty name between two commas: the command then names it as a fault."""
    return tuple(name.strip() for text in value for name in text.split(","))


def negated_flag(flag: str, field: str, *, help: str) -> Callable[[Any], Any]:
    """Make a flag such as --no-cache that sets the option `field` to False; it is True without the flag."""
    return click.option(flag, field, is_flag=True, callback=lambda context, parameter, given: not given, help=help)


@dataclass
class _Document:
    """Standard output while --json is in force, and whether the one document has been written to it."""

    stream: TextIO
    written: bool = False


_document: ContextVar[_Document | None] = ContextVar("document", default=None)


@contextmanager
def stdout_for_json() -> Iterator[_Document]:
    """Keep standard output for `print_json`: what libraries print meanwhile goes to standard error."""
    document = _Document(sys.stdout)
    token = _document.set(document)
    try:
        with redirect_stdout(sys.stderr):
            yield document
    finally:
        _document.reset(token)


def json_in_force() -> bool:
    """Whether the command was given --json, also while its options are still being read."""
    return _document.get() is not None


def require_writable(reports: Sequence[Path], kind: Kind) -> None:
    """Make sure, before the work and not after, that each report can be written.

    Raises UsageError for a wrong ending or a file that no report of `kind` replaces, and EnvironmentMissing for a
    folder that cannot be written to.
    """
    from rope_deploy.artifact import staging
    from rope_deploy.report import format_of
    from rope_deploy.runs.report_files import refuse_foreign

    for path in reports:
        format_of(path)
        refuse_foreign(path, kind)
        with staging(path):
            pass


def show_and_write(context: click.Context, result: Report, reports: Sequence[Path], *, as_json: bool) -> None:
    """Show the result, write the report files asked for, and exit with 1 if it failed."""
    from rope_deploy import api
    from rope_deploy.report import render

    if as_json:
        print_json(render(result, "json"))
    else:
        from rope_deploy.report.terminal import show

        show(result)
    for path in reports:
        api.write_report(result, path)
    if result.verdict == "failed":
        context.exit(1)


def print_json(content: str | dict[str, Any] | list[Any]) -> None:
    """Print the one JSON document of a command run with --json; text is taken to be JSON already.

    A command whose verdict is "failed" prints its result here and then raises CheckFailed or calls `ctx.exit(1)`;
    no second document follows.
    """
    text = content.rstrip() if isinstance(content, str) else json.dumps(content, indent=2)
    document = _document.get()
    if document is not None:
        document.written = True
    echo_json(text, document.stream if document else None)
