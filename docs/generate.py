"""Write what is computed into the pages of the diagnoses, and docs/diagnostics.md out of them.

    python -m docs.generate

A page of rope_deploy/results/pages is written by hand except for two kinds of blocks: `numbers`, the figures of its
example (docs/numbers.py), and `console`, what the diagnosis says of the mistake when it is planted
(faults/bare_rotation.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from docs.numbers import NUMBERS
from faults.bare_rotation import PLANTS, diagnosed
from rope_deploy.report.grouped_mistakes import mistakes
from rope_deploy.report.terminal import to_text
from rope_deploy.results.code_pages import SECTIONS, page_of
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import DiagnosisRecord, Report

DOCS = Path(__file__).parent
PAGES = DOCS.parent / "rope_deploy" / "results" / "pages"
TARGET = DOCS / "diagnostics.md"
REFERENCE = re.compile(r"(?<![\w/#`])([\w.-]+/[\w.-]+)#(\d+)\b")
CODE = re.compile(r"(?<![\w#`\[])(RD\d{3})\b(?!\])")


def refreshed(code: str, text: str) -> str:
    """A page with its computed blocks as they are today."""
    if code in NUMBERS:
        text = _filled(text, "numbers", NUMBERS[code]())
    if code in PLANTS:
        text = _filled(text, "console", f"$ rope-deploy check out/model\n{said(diagnosed(PLANTS[code]))}")
    return text


def said(records: tuple[DiagnosisRecord, ...]) -> str:
    """What `check` prints of diagnoses on a terminal, below its verdict."""
    report = Report("", "", "", "", {}, 0.0, diagnoses=records)
    lines = to_text(report).rstrip().splitlines()
    first = next(i for i, line in enumerate(lines) if mistakes(report)[0].code in line)
    return "\n".join(line.removeprefix("  ") for line in lines[first:])


def diagnostics() -> str:
    """docs/diagnostics.md."""
    parts = [(DOCS / "parts" / "symptoms.md").read_text().strip(), _listed()]
    parts += [_section(code) for code in CODES]
    parts.append((DOCS / "parts" / "elsewhere.md").read_text().strip())
    return "\n\n".join(linked(part) for part in parts) + "\n"


def linked(text: str) -> str:
    """Codes and issues as links, outside of code."""
    pieces = re.split(r"(^```.*?^```$|`[^`\n]*`|^#[^\n]*$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(piece if index % 2 else _links(piece) for index, piece in enumerate(pieces))


def _links(text: str) -> str:
    text = REFERENCE.sub(r"[\1 #\2](https://github.com/\1/issues/\2)", text)
    return CODE.sub(lambda match: f"[{match[1]}](#{match[1].lower()})" if match[1] in CODES else match[1], text)


def _listed() -> str:
    lines = [f"| {code} | {title} |" for code, title in CODES.items()]
    return "\n".join(["## All codes", "", "| code | mistake |", "|---|---|", *lines])


def _section(code: str) -> str:
    page = page_of(code)
    bodies = (page.what, page.why, page.example, page.fix)
    parts = [f"**{heading}.** {body}" for heading, body in zip(SECTIONS, bodies)]
    return "\n\n".join([f"## {code}", f"*{page.title}*", *parts])


def _filled(text: str, language: str, body: str) -> str:
    block = re.compile(rf"^```{language}\n.*?^```$", re.MULTILINE | re.DOTALL)
    if len(block.findall(text)) != 1:
        raise ValueError(f"a page with figures has one block of {language}")
    return block.sub(lambda _: f"```{language}\n{body}\n```", text)


def main() -> None:
    for code in CODES:
        path = PAGES / f"{code}.md"
        path.write_text(refreshed(code, path.read_text()))
    TARGET.write_text(diagnostics())


if __name__ == "__main__":
    main()
