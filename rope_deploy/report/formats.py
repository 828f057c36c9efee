"""Render a report in one of its formats. Renderers are imported when asked for: most runs need one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from rope_deploy.errors import UsageError
from rope_deploy.options import FileFormat
from rope_deploy.results.records import Report

Format = Literal["terminal"] | FileFormat

FORMATS: tuple[Format, ...] = ("terminal", *get_args(FileFormat))
FILE_NAMES: dict[FileFormat, str] = {
    "json": "report.json",
    "junit": "report.xml",
    "markdown": "report.md",
    "html": "report.html",
    "sarif": "report.sarif",
}


def render(report: Report, format: Format) -> str:
    """The whole report as text, ending in a newline. "terminal" is plain text without colour.

    Raises UsageError for an unknown format.
    """
    match format:
        case "terminal":
            from rope_deploy.report.terminal import to_text

            return to_text(report)
        case "json":
            from rope_deploy.report.json_format import to_json

            return to_json(report)
        case "junit":
            from rope_deploy.report.junit import to_junit

            return to_junit(report)
        case "markdown":
            from rope_deploy.report.markdown import to_markdown

            return to_markdown(report)
        case "html":
            from rope_deploy.report.html import to_html

            return to_html(report)
        case "sarif":
            from rope_deploy.report.sarif import to_sarif

            return to_sarif(report)
    raise UsageError(f"There is no report format {format}.", exists=f"The formats are: {', '.join(FORMATS)}.")


def format_of(path: str | Path) -> FileFormat:
    """The format a file name asks for by its ending. Raises UsageError for any other ending."""
    endings = {Path(name).suffix: format for format, name in FILE_NAMES.items()} | {".htm": "html"}
    suffix = Path(path).suffix.lower()
    if suffix not in endings:
        raise UsageError(
            f"{path} does not say which report it is to be.",
            exists=f"Known endings: {', '.join(endings)}.",
        )
    return endings[suffix]
