"""Recognise whether a file is a report of rope-deploy, and its kind: the next report replaces only one of its kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from rope_deploy.errors import UsageError
from rope_deploy.report.html import FOOTER
from rope_deploy.report.markdown import ICONS
from rope_deploy.results import wording
from rope_deploy.results.records import Kind
from rope_deploy.safe_reading import read_bytes

_JUNIT = re.compile(r"<\?xml [^>]*\?>\s*<!-- ([^>]*) -->")
_MARKDOWN = re.compile(r" · ([^·]*)</sub>\Z")
_HTML = re.compile(rf"<footer>([^<]*) {re.escape(FOOTER)}</footer>")


def may_replace(path: Path, kind: Kind) -> bool:
    """Whether a report of `kind` may replace the file at `path`: that is one itself, or blank."""
    text = _read(path)
    return text is not None and (not text.strip() or _kind(text) == kind)


def kind_of(path: Path) -> Kind | None:
    """The kind of the report at `path`, in any format, by its content and not its name; None if it is no report."""
    text = _read(path)
    return None if text is None else _kind(text)


def _read(path: Path) -> str | None:
    try:
        return read_bytes(path).decode("utf-8")
    except (OSError, ValueError, UsageError):
        return None


def _kind(text: str) -> Kind | None:
    text = text.strip()
    if text.startswith("{"):
        return _json_kind(text)
    if text.startswith(tuple(f"# {icon} " for icon in ICONS.values())):
        return _kind_of_match(_MARKDOWN.search(text))
    return _kind_of_match(_JUNIT.match(text) or _HTML.search(text))


def _kind_of_match(match: re.Match[str] | None) -> Kind | None:
    return wording.made(match[1]) if match else None


def _json_kind(text: str) -> Kind | None:
    try:
        document: Any = json.loads(text)
        if not {"schema_version", "verdict", "title", "source"} <= document.keys():
            run = document["runs"][0]  # SARIF
            document = run["properties"] if run["tool"]["driver"]["name"] == "rope-deploy" else {"kind": None}
        kind = document.get("kind", "")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return kind if kind in get_args(Kind) else None
