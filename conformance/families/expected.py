"""The verdicts that a sweep is held against: what was reached stays reached."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.families.record import Record

KINDS = ("layouts", "rules", "caches")
PATH = Path(__file__).with_name("expected.json")
BAD = ("wrong", "sites", "crash", "timeout", "memory")
# From best to worst. What is not listed has nothing to be judged by.
ORDER = ("green", "uncached", "refused", "needs-package", *BAD)


@dataclass(frozen=True)
class Surprise:
    """A family that did worse than expected, or better; `text` says how."""

    family: str
    worse: bool
    text: str


def surprises(records: Iterable[Record], expected: Mapping[str, Mapping[str, object]]) -> list[Surprise]:
    """What differs from `expected`, and whatever is wrong, lost a rotation, crashed or was ended, expected or not."""
    found = []
    for record in records:
        before = expected.get(record.family, {})
        found += _of_verdict(record, str(before.get("verdict", record.verdict)))
        found += _of_engine(record, str(before.get("engine", "")))
        found += _of_part("rope type", record.family, record.ropes, before.get("ropes", ()))
        found += _of_part("the rule of", record.family, record.published, before.get("published", ()))
    return found


def _of_verdict(record: Record, before: str) -> Iterable[Surprise]:
    if record.verdict in BAD:
        yield Surprise(record.family, True, f"is {record.verdict}: {record.reason[:300]}")
    elif record.verdict != before:
        worse = _rank(record.verdict) > _rank(before)
        yield Surprise(record.family, worse, f"is {record.verdict}, not {before}. {record.reason[:300]}".rstrip())


def _of_engine(record: Record, before: str) -> Iterable[Surprise]:
    now = record.engine.get("verdict", "")
    if now and before and now != before:
        text = f"has its engine {now}, not {before}. {record.engine.get('reason', '')[:300]}"
        yield Surprise(record.family, before == "built", text.rstrip())


def _of_part(
    what: str, family: str, found: Mapping[str, Mapping[str, str]], before: Iterable[str]
) -> Iterable[Surprise]:
    """Of rope types or published rules: `before` are those that were green."""
    for name, result in found.items():
        now = result["verdict"]
        if now in BAD or (name in before and now != "green"):
            yield Surprise(family, True, f"with {what} {name} is {now}: {result['reason'][:300]}")
        elif now == "green" and before and name not in before:
            yield Surprise(family, False, f"is green with {what} {name}.")


def _green(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    return sorted(name for name, result in found.items() if result["verdict"] == "green")


def _rank(verdict: str) -> int:
    return ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def read(path: Path = PATH) -> dict[str, dict[str, object]]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(records: Iterable[Record], path: Path = PATH) -> None:
    """Expect of every family what `records` say of it; what they do not say stays expected. Of green ones it is also
    written which layouts, rules and caches they have, so that some can stand for all."""
    known = read(path)
    for record in records:
        one: dict[str, object] = {**known.get(record.family, {}), "verdict": record.verdict}
        if record.verdict == "green":
            one |= {kind: getattr(record, kind) for kind in KINDS}
        if record.engine:
            one["engine"] = record.engine["verdict"]
        if record.ropes:
            one["ropes"] = _green(record.ropes)
        if record.published:
            one["published"] = sorted({*one.get("published", ()), *_green(record.published)})
        known[record.family] = one
    lines = [f'  "{name}": {json.dumps(known[name])}' for name in sorted(known)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
