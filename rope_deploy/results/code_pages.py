"""The page of a code: what the mistake is, why it happens, an example, and what to do.

`pages/RDxxx.md` is the one source: `check --explain` shows it and docs/diagnostics.md is generated from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib.resources import files
from typing import TYPE_CHECKING

from rope_deploy.errors import UsageError
from rope_deploy.results.codes import CODES

if TYPE_CHECKING:
    from rich.console import Console

SECTIONS = ("What", "Why it happens", "Example", "Fix")
NEAREST = 3


@dataclass(frozen=True)
class Page:
    """One code, in Markdown. The parts come without their headings."""

    code: str
    title: str
    what: str
    why: str
    example: str
    fix: str

    def to_markdown(self) -> str:
        parts = zip(SECTIONS, (self.what, self.why, self.example, self.fix))
        body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in parts)
        return f"# {self.code}: {self.title}\n\n{body}\n"


def page_of(code: str) -> Page:
    """The page of a code, in capitals or not. Raises UsageError, with the nearest codes, if there is none."""
    code = code.strip().upper()
    if code not in CODES:
        near = "; ".join(f"{name} {CODES[name]}" for name in _nearest(code))
        raise UsageError(
            f"There is no diagnosis {code or '(nothing)'}.",
            exists=f"Nearest: {near}.",
            todo="`rope-deploy check --explain all` lists them.",
        )
    return Page(code, CODES[code], *parts_of(page_text(code)))


def index() -> str:
    """Every code and its title, one a line."""
    return "".join(f"{code}  {title}\n" for code, title in CODES.items())


def shown(page: Page, console: Console | None = None) -> None:
    """Print a page: as rich Markdown on a terminal, else as the Markdown it is."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = console or Console(highlight=False)
    if console.is_terminal:
        console.print(Markdown(page.to_markdown(), code_theme="ansi_light"))
    else:
        console.file.write(page.to_markdown())


def page_text(code: str) -> str:
    """The file behind a page, as it is."""
    return (files("rope_deploy.results") / "pages" / f"{code}.md").read_text("utf-8")


def parts_of(text: str) -> tuple[str, str, str, str]:
    """The four parts of a page, in the order of SECTIONS. Raises ValueError if one is missing, empty or misplaced."""
    pieces = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    headings, bodies = tuple(pieces[1::2]), [body.strip() for body in pieces[2::2]]
    if pieces[0].strip() or headings != SECTIONS or not all(bodies):
        raise ValueError(f"a page has the parts {', '.join(SECTIONS)}, not {', '.join(headings)}")
    what, why, example, fix = bodies
    return what, why, example, fix


def _nearest(asked: str) -> list[str]:
    """Codes whose title has the word that was asked for, else those with the number nearest to it."""
    if named := [code for code, title in CODES.items() if len(asked) > 2 and asked in title.upper()]:
        return named[:NEAREST]
    digits = re.sub(r"\D", "", asked)

    def distance(code: str) -> tuple[float, float]:
        likeness = SequenceMatcher(None, asked, code).ratio()
        return (abs(int(digits) - int(code[2:])) if digits else 0, -likeness)

    return sorted(CODES, key=distance)[:NEAREST]
