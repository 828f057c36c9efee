"""What an artifact cannot do, or does for fewer positions than its model: reported, and allowed by name.

A limit keeps cases from being judged, so it is never passed over. `check` shows one that an operator of the graph
explains (GroupQueryAttention takes lengths where the model has a mask) or that its tables prove, and fails for one that
rests on a statement alone. Under `ci` every limit fails that the configuration does not allow by name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rope_deploy.artifact import Manifest
from rope_deploy.errors import UsageError
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import CheckRecord, DiagnosisRecord
from rope_deploy.runs.manifest_claims import LIMITS, restrictions
from rope_deploy.runtime_registry import FILE

CODE = "RD608"


@dataclass(frozen=True)
class ReportedLimits:
    """The limits of one artifact, as a report shows them."""

    record: CheckRecord
    note: str
    diagnoses: tuple[DiagnosisRecord, ...] = ()


def require_limits(names: Collection[str]) -> None:
    """Raise UsageError for a limit that there is not."""
    if strange := sorted(set(names) - set(LIMITS)):
        raise UsageError(f"There is no limit {', '.join(strange)}.", exists=f"Limits: {', '.join(LIMITS)}.")


def report_limits(
    manifest: Manifest, reach: int | None, *, allowed: Collection[str] = (), strict: bool = False
) -> ReportedLimits | None:
    """The limits of an artifact; None where there is none. `reach`: positions that the model serves.

    A limit fails if it is not among `allowed` and nothing but the manifest states it, or, where `strict`, for being
    there at all.
    """
    found = restrictions(manifest, reach)
    if not found:
        return None
    unproven = {"tokens"} if any(rotation.cos_cache for rotation in manifest.rotations) else {"tokens", "max_position"}
    failing = {name: text for name, text in found.items() if name not in allowed and (strict or name in unproven)}
    listed = "; ".join(f"{name}: {text}" for name, text in found.items())
    about = manifest.style, FILE
    record = CheckRecord(
        *about,
        case="limits",
        detail="what the graph cannot do although its model can",
        verdict="failed" if failing else "skipped",
        worst=None,
        message=f"{CODE}: what lies beyond was not judged. {listed}.",
        seconds=0.0,
    )
    note = f"{CODE}: {manifest.style} has limits, and what lies beyond was not judged. {listed}."
    if not failing:
        return ReportedLimits(record, note)
    explanation = f"Not judged, and not allowed by name ({', '.join(failing)}): {'; '.join(failing.values())}."
    return ReportedLimits(record, note, (DiagnosisRecord(*about, CODE, CODES[CODE], "the artifact", explanation),))
