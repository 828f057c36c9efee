"""Edits of a manifest read as JSON: the building blocks of tampering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
ManifestEdit = Callable[[Document], None]


def at(*path: str | int, value: Any) -> ManifestEdit:
    """The manifest with another value at a path such as ("limits", "tokens"); a callable gets the old value."""

    def edit(document: Document) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value(document[path[-1]]) if callable(value) else value

    return edit


def all_sites(name: str, value: Any) -> ManifestEdit:
    """The manifest with another value of `name` in each site; a callable gets the site."""

    def edit(document: Document) -> None:
        for site in document["sites"]:
            site[name] = value(site) if callable(value) else value

    return edit


def both(*edits: ManifestEdit) -> ManifestEdit:
    """All of `edits`, in order."""

    def edit(document: Document) -> None:
        for one in edits:
            one(document)

    return edit
