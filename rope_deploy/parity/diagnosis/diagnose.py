"""From the evidence of every site to a list of mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from rope_deploy.artifact import Manifest
from rope_deploy.parity.diagnosis.observation import Observation
from rope_deploy.report.records import DiagnosisRecord


def diagnose(manifest: Manifest, runtime: str, observations: Sequence[Observation]) -> tuple[DiagnosisRecord, ...]:
    """One record for each mistake, the sites that share it together. Empty if every site is sound.

    All observations of a site count, also those in which it was right: a mistake must explain both.
    """
    return ()
