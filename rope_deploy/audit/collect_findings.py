"""What an audit collects: a record for each question, a diagnosis for each mistake, and notes."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from rope_deploy.graph.reading import FoundSite
from rope_deploy.results import wording
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import CheckRecord, DiagnosisRecord, Verdict, Worst
from rope_deploy.runtime_registry import FILE


@dataclass(frozen=True)
class Audit:
    """The outcome of an audit. A note about a hazard begins with its code."""

    checks: tuple[CheckRecord, ...]
    diagnoses: tuple[DiagnosisRecord, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> bool:
        return bool(self.diagnoses) or any(record.verdict == "failed" for record in self.checks)


@dataclass
class Findings:
    """Collects an audit. Reports show the file as `style`; `fail_on` are codes of hazards that count as mistakes."""

    style: str
    fail_on: Collection[str] = ()
    records: list[CheckRecord] = field(default_factory=list)
    diagnoses: list[DiagnosisRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(
        self, case: str, detail: str, verdict: Verdict, message: str, began: float, worst: Worst | None = None
    ) -> None:
        seconds = time.perf_counter() - began
        names = {record.case for record in self.records}
        while case in names:
            case += "'"
        self.records.append(CheckRecord(self.style, FILE, case, detail, verdict, worst, message, seconds))

    def mistake(
        self,
        code: str,
        explanation: str,
        where: str,
        *,
        layers: Iterable[int] = (),
        roles: Iterable[str] = (),
        error: float = 0.0,
        residual: float = 0.0,
        case: str = "",
    ) -> None:
        """Add a diagnosis; one with the same code and explanation gets the layers, roles and cases instead."""
        cases = (case,) if case else ()
        for number, known in enumerate(self.diagnoses):
            if (known.code, known.explanation) == (code, explanation):
                self.diagnoses[number] = replace(
                    known,
                    where=known.where if where in known.where else f"{known.where}; {where}",
                    layers=tuple(sorted({*known.layers, *layers})),
                    roles=_roles({*known.roles, *roles}),
                    cases=tuple(dict.fromkeys((*known.cases, *cases))),
                    error=max(known.error, error),
                    residual=max(known.residual, residual),
                )
                return
        self.diagnoses.append(
            DiagnosisRecord(
                style=self.style,
                runtime=FILE,
                code=code,
                title=CODES[code],
                where=where,
                explanation=explanation,
                layers=tuple(sorted(set(layers))),
                roles=_roles(set(roles)),
                cases=cases,
                error=error,
                residual=residual,
            )
        )

    def hazard(self, code: str, explanation: str, where: str, layers: Iterable[int] = ()) -> None:
        """Add a note, or a mistake if `fail_on` has this code."""
        if code in self.fail_on:
            self.mistake(code, explanation, where, layers=layers)
        elif (text := f"{code}: {explanation}") not in self.notes:
            self.notes.append(text)

    def audit(self) -> Audit:
        return Audit(tuple(self.records), tuple(self.diagnoses), tuple(self.notes))


def roles_and_layers(sites: Sequence[FoundSite]) -> str:
    """E.g. "q and k of layers 0–29"."""
    layers = sorted({site.layer for site in sites})
    return f"{' and '.join(_roles({site.role for site in sites}))} of {wording.layers(layers)}"


def _roles(roles: set[str]) -> tuple[str, ...]:
    return tuple(sorted(roles, reverse=True))
