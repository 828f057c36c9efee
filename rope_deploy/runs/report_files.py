"""Write a report to a file. A file that is no report of the same kind is never replaced."""

from __future__ import annotations

import os
from pathlib import Path

from rope_deploy.artifact import new_file, write_utf8
from rope_deploy.errors import UsageError
from rope_deploy.report import format_of, render
from rope_deploy.report.recognise_report import kind_of, may_replace
from rope_deploy.results.records import Kind, Report

MADE_BY: dict[Kind, str] = {
    "": "a report made by hand, or by an earlier version",
    "check": "a report of `check`",
    "audit": "a report of `check --audit`",
    "bench": "a report of `bench`, which may serve as a baseline",
    "ci": "a report of `ci`",
    "baseline": "a baseline, which `ci --update-baseline` writes",
}


def write_report(report: Report, path: Path) -> None:
    """See `rope_deploy.api.write_report`."""
    text = render(report, format_of(path))
    refuse_foreign(path, report.kind)
    with new_file(path) as unfinished:
        write_utf8(unfinished, text)


def refuse_foreign(path: Path, kind: Kind) -> None:
    """Raise UsageError if something lies at `path` that is no report of `kind`. Called early too, before long work."""
    if not os.path.lexists(path) or may_replace(path, kind):
        return
    found = kind_of(path)
    if found is not None:
        raise UsageError(
            f"{path} is not replaced by {MADE_BY[kind].split(',')[0]}.",
            exists=f"It is {MADE_BY[found]}.",
            todo="Choose another name for the report, or move that away.",
        )
    raise UsageError(
        f"{path} is not a report of rope-deploy, so no report replaces it.",
        exists="It is a folder." if path.is_dir() else "Somebody else wrote it.",
        todo="Choose another name for the report, or move that away.",
    )
