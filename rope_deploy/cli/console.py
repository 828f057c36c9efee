"""Print everything that a command prints, with control characters written as escapes.

Names in files may come from anybody, and a terminal obeys what it reads: `\\x1b]0;title\\x07` in the name of a rotation
would rename the window; other sequences move the cursor over earlier output, or reorder the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.text import Text


def echo(text: str = "", *, err: bool = False) -> None:
    """Print lines of text on standard output, or on standard error."""
    from rope_deploy.results.wording import clean

    click.echo(clean(text), err=err)


def echo_json(text: str, file: TextIO | None = None) -> None:
    """Print a JSON document with the same value, written so that a terminal obeys nothing in it."""
    from rope_deploy.results.wording import clean_json

    click.echo(clean_json(text), file=file)


def plain(text: str) -> Text:
    """Make one line of text for a live display, which obeys no markup in it."""
    from rich.text import Text

    from rope_deploy.results.wording import line

    return Text(line(text))
