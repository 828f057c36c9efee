"""Summarise a report for its renderers: the verdict in a sentence, one row per style, and everything that failed."""

from __future__ import annotations

from dataclasses import dataclass

from rope_deploy.report.grouped_mistakes import mistakes
from rope_deploy.results import wording
from rope_deploy.results.records import CheckRecord, GenerationRecord, LatencyRecord, Report, Verdict, Worst

# More workloads than this do not fit beside one another; the rest are in the details.
MOST_WORKLOADS = 3


@dataclass(frozen=True)
class Problem:
    """One thing that failed: what it is, where, and what was seen."""

    kind: str
    where: str
    message: str


@dataclass(frozen=True)
class Row:
    """One style in one runtime. `worst` is the error closest to (or furthest over) its tolerance."""

    style: str
    runtime: str
    verdict: Verdict
    passed: int
    failed: int
    skipped: int
    worst: Worst | None
    same_text: bool | None
    latencies: tuple[LatencyRecord | None, ...]
    bytes: int | None

    @property
    def judged(self) -> int:
        """The number of checks that passed or failed."""
        return self.passed + self.failed


def headline(report: Report) -> str:
    """The verdict with its reasons, e.g. "1 mistake was found; 2 of 48 checks and 1 of 4 gates failed." """
    groups = [
        ("check", [c.verdict for c in report.checks]),
        ("engine", [e.verdict for e in report.engines]),
        ("text", [text_verdict(g) for g in report.generations]),
        ("gate", [g.verdict for g in report.gates]),
    ]
    failed, passed = [], []
    for noun, verdicts in groups:
        bad, good = verdicts.count("failed"), verdicts.count("passed")
        if bad:
            failed.append(f"{bad} of {wording.count(bad + good, noun)}")
        elif good:
            passed.append(f"{'all ' if good > 1 else ''}{wording.count(good, noun)}")
    skipped = sum(verdicts.count("skipped") for noun, verdicts in groups if noun != "text")
    tail = f" {wording.count(skipped, 'item')} skipped." if skipped else ""
    named = len(mistakes(report))
    found = f"{wording.count(named, 'mistake')} {'was' if named == 1 else 'were'} found" if named else ""
    if failed:
        return f"{found}{'; ' if found else ''}{_listed(failed)} failed.{tail}"
    if found:
        return f"{found}.{tail}"
    if passed:
        sentence = f"{_listed(passed)} passed.{tail}"
        return sentence[0].upper() + sentence[1:]
    return f"Nothing was judged.{tail}"


def text_verdict(generation: GenerationRecord) -> Verdict:
    """The verdict of a text; PyTorch's own is what others are compared with, so it is "skipped"."""
    return "skipped" if generation.agrees is None else "passed" if generation.agrees else "failed"


def problems(report: Report) -> tuple[Problem, ...]:
    """Everything that failed, most telling first: gates, then checks, engines and texts."""
    found = [
        Problem("gate", wording.line(g.name), f"measured {wording.line(g.measured)}, limit {wording.line(g.limit)}")
        for g in report.gates
        if g.verdict == "failed"
    ]
    found += [
        Problem("check", f"{wording.target(c.style, c.runtime)} · {wording.line(c.case)}", check_message(c))
        for c in report.checks
        if c.verdict == "failed"
    ]
    found += [
        Problem(
            "engine", f"{wording.line(e.flavor)} · {wording.line(e.style)}", wording.clean(e.message) or "was not built"
        )
        for e in report.engines
        if e.verdict == "failed"
    ]
    found += [
        Problem("text", f"{wording.target(g.style, g.runtime)} · “{wording.line(g.prompt)}”", difference(report, g))
        for g in report.generations
        if g.agrees is False
    ]
    return tuple(found)


def check_message(check: CheckRecord) -> str:
    """The message of a check and, for one that compared something, the worst location with its figures."""
    parts = [wording.clean(check.message).strip()] if check.message.strip() else []
    if check.worst is not None:
        error, tolerance = check.worst.error, check.worst.tolerance
        found = f"{wording.beside(error, tolerance)} at {wording.location(check.worst)}"
        parts.append(f"Largest error {found}; tolerance {wording.error(tolerance)}.")
    return "\n".join(parts) or "no reason was recorded"


def difference(report: Report, generation: GenerationRecord) -> str:
    """A clause with a text that differs and PyTorch's."""
    expected = _reference(report, generation)
    shown = f"says “{wording.line(generation.text)}”"
    if expected is None:
        return f"{shown}, which is not PyTorch's text"
    return f"{shown} where PyTorch says “{wording.line(expected.text)}”; {first_difference(report, generation)}"


def first_difference(report: Report, generation: GenerationRecord) -> str:
    """A clause with the first token, counted from one, at which a text differs from PyTorch's."""
    expected = _reference(report, generation)
    if expected is None:
        return "is not PyTorch's text"
    pairs = enumerate(zip(generation.tokens, expected.tokens))
    shorter = min(len(generation.tokens), len(expected.tokens))
    first = next((index for index, (ours, theirs) in pairs if ours != theirs), shorter)
    return f"differs from token {first + 1} on"


def _reference(report: Report, generation: GenerationRecord) -> GenerationRecord | None:
    return next((g for g in report.generations if g.agrees is None and g.prompt == generation.prompt), None)


def workloads(report: Report) -> tuple[str, ...]:
    """The workloads that were timed, in the order of the records, as many as fit in a table."""
    return tuple(dict.fromkeys(record.workload for record in report.latencies))[:MOST_WORKLOADS]


def rows(report: Report) -> tuple[Row, ...]:
    """One row per style and runtime, in the order of the checks; what was only timed comes last."""
    records = (*report.checks, *(g for g in report.generations if g.agrees is not None), *report.latencies)
    keys = dict.fromkeys((record.style, record.runtime) for record in records)
    return tuple(_row(report, style, runtime) for style, runtime in keys)


def _row(report: Report, style: str, runtime: str) -> Row:
    def mine(records):
        return [r for r in records if (r.style, r.runtime) == (style, runtime)]

    checks = mine(report.checks)
    verdicts = [c.verdict for c in checks]
    texts = [g.agrees for g in mine(report.generations) if g.agrees is not None]
    timed = {record.workload: record for record in mine(report.latencies)}
    if "failed" in verdicts or False in texts:
        verdict: Verdict = "failed"
    else:
        verdict = "passed" if "passed" in verdicts or texts else "skipped"
    return Row(
        style=style,
        runtime=runtime,
        verdict=verdict,
        passed=verdicts.count("passed"),
        failed=verdicts.count("failed"),
        skipped=verdicts.count("skipped"),
        worst=max((c.worst for c in checks if c.worst), key=wording.share, default=None),
        same_text=all(texts) if texts else None,
        latencies=tuple(timed.get(workload) for workload in workloads(report)),
        bytes=next((e.bytes for e in report.exports if e.style == style), None),
    )


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
