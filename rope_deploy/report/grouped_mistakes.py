"""Group diagnoses by mistake: one mistake is shown once, however many styles and runtimes show it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rope_deploy.results import wording
from rope_deploy.results.records import CheckRecord, DiagnosisRecord, Report


@dataclass(frozen=True)
class Mistake:
    """One mistake. `target`: the styles and runtimes that show it; `cases`: the first three cases in which it shows;
    `fit`: how well it explains what was seen, "" if unknown."""

    code: str
    title: str
    where: str
    explanation: str
    fit: str
    target: str
    cases: str

    @property
    def command(self) -> str:
        """The command that explains it."""
        return f"rope-deploy check --explain {self.code}"


def mistakes(report: Report) -> tuple[Mistake, ...]:
    """The mistakes in the order of the diagnoses. One that several styles share has the figures of the worst."""
    shared: dict[tuple[object, ...], list[DiagnosisRecord]] = {}
    for record in report.diagnoses:
        location = (record.layers, record.roles) if record.layers else record.where
        shared.setdefault((record.code, record.explanation, location), []).append(record)
    return tuple(_mistake(records) for records in shared.values())


def worst_check(report: Report) -> CheckRecord | None:
    """The failed check whose rotated q or k is furthest over its tolerance; None if there is none."""
    over = [
        check
        for check in report.checks
        if check.verdict == "failed"
        and check.worst
        and check.worst.role in ("q", "k")
        and wording.share(check.worst) > 1
    ]
    return max(over, key=lambda check: wording.share(check.worst), default=None)


def _mistake(records: list[DiagnosisRecord]) -> Mistake:
    worst = max(records, key=lambda record: record.error)
    cases = list(dict.fromkeys(wording.line(case) for record in records for case in record.cases))
    return Mistake(
        code=wording.line(worst.code),
        title=wording.line(worst.title),
        where=wording.line(worst.where),
        explanation=wording.line(worst.explanation),
        fit=_fit(worst),
        target=", ".join(dict.fromkeys(wording.target(record.style, record.runtime) for record in records)),
        cases=", ".join(cases[:3]) + (f" and {len(cases) - 3} more" if len(cases) > 3 else ""),
    )


def _fit(record: DiagnosisRecord) -> str:
    if not record.error > 0:
        return ""
    seen = f"{_times(record.error)} what rounding explains"
    if record.code >= "RD6":  # found without repeating the mistake: there is no residual
        return seen
    return seen + (f"; {_times(record.residual)} with this mistake repeated" if record.residual < record.error else "")


def _times(ratio: float) -> str:
    """`ratio` in words: "9 400 times", "0.3 times"."""
    if not math.isfinite(ratio):
        return "infinitely many times"
    if 0 < ratio < 0.1:
        return "less than 0.1 times"
    if ratio >= 1e7:
        return f"{wording.error(ratio)} times"
    return f"{wording.number(float(f'{ratio:.2g}'))} times" if ratio >= 9.95 else f"{ratio:.1f} times"
