"""All that a command prints goes through here: names in files are other people's, and a terminal obeys what it reads.

`\\x1b]0;title\\x07` in the name of a rotation would rename the window; other sequences move the cursor over what was
said before, or reorder the text. Such characters are written as escapes.
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
    """Print a JSON document, the same value with nothing in it that a terminal obeys."""
    from rope_deploy.results.wording import clean_json

    click.echo(clean_json(text), file=file)


def plain(text: str) -> Text:
    """One line for a live display: no markup in it is obeyed either."""
    from rich.text import Text

    from rope_deploy.results.wording import line

    return Text(line(text))
