"""What is not green, grouped by why: the same message about different families is one cause."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.families.record import Record


@dataclass(frozen=True)
class Cause:
    """`reason` is the message of the first of its `records`."""

    verdict: str
    stage: str
    reason: str
    records: tuple[Record, ...]


def causes(records: Iterable[Record]) -> list[Cause]:
    """Every cause, the most frequent first."""
    groups: dict[tuple[str, str, str], list[tuple[str, Record]]] = defaultdict(list)
    for record in records:
        for verdict, stage, reason in _complaints(record):
            groups[verdict, stage, normal(reason, record)].append((reason, record))
    found = [
        Cause(verdict, stage, members[0][0], tuple(record for _, record in members))
        for (verdict, stage, _), members in groups.items()
    ]
    return sorted(found, key=lambda cause: (-len(cause.records), cause.verdict, cause.reason))


def _complaints(record: Record) -> Iterable[tuple[str, str, str]]:
    if record.verdict != "green":
        yield record.verdict, record.stage.split(" ")[0], record.reason


def normal(reason: str, record: Record) -> str:
    """`reason` without what differs from family to family: names, numbers, paths."""
    for name in (record.family, record.model, record.family.replace("_", "")):
        reason = reason.replace(name, "…")
    reason = re.sub(r"/\S+", "…", reason)
    reason = re.sub(r"\S*\d\S*", "#", reason)
    return re.sub(r"(# ?)+", "#", reason)[:90]


def plain(text: str) -> str:
    """`text` on one line, without what Markdown would read as its own."""
    return " ".join(text.replace("|", "/").replace("<", "‹").replace(">", "›").split())


def markdown(records: Iterable[Record]) -> str:
    """The causes as a Markdown page: how often, what was said, where, and of whom."""
    records = list(records)
    green = [record for record in records if record.verdict == "green"]
    lines = [f"{len(records)} families, {len(green)} green.", ""]
    for cause in causes(records):
        names = ", ".join(record.family for record in cause.records)
        first = cause.records[0]
        lines += [f"### {len(cause.records)} × {cause.verdict} at {cause.stage}", "", f"    {cause.reason[:600]}", ""]
        lines += [f"at `{first.where}`" if first.where else "", f"families: {names}", ""]
    return "\n".join(lines)
