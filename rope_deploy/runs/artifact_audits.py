"""The audits that a check begins with: what each artifact holds, beside the loading of the model."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Executor, Future
from pathlib import Path

from rope_deploy.audit import Audit, stated_by
from rope_deploy.audit.audit_artifact import Stated
from rope_deploy.audit.collect_findings import Findings
from rope_deploy.childprocess import Limits, call
from rope_deploy.errors import RopeDeployError
from rope_deploy.runs.artifacts import Artifact

AUDIT = "rope_deploy.audit:audit_artifact"


def start_audits(artifacts: Collection[Artifact], pool: Executor, *, trusted: bool = True) -> dict[Path, Future[Audit]]:
    """The audits of artifacts, by folder. What stops one becomes a failed record, and the cases of the check go on.

    Hashes are the check's to compare. Every row of every table is looked at, those that no case visits among them. Each
    audit has a process of its own, as the runtimes of the cases have, which a thread of `pool` waits for. The
    configuration is read before, by the caller's thread: transformers' classes parse their own source, and Python's
    parser bears no two threads. `trusted`: what the manifest accepts is accepted, since the model itself is compared.
    """
    audits = {}
    for artifact in artifacts:
        try:
            # With a model to compare, this process has PyTorch anyway; without one it must not load it.
            known = trusted and artifact.manifest.task != "tower"
            stated = stated_by(artifact.folder, artifact.manifest) if known else None
        except RopeDeployError as error:
            audits[artifact.folder] = pool.submit(_failed, artifact, error)
        else:
            audits[artifact.folder] = pool.submit(_audit, artifact, stated, trusted)
    return audits


def _audit(artifact: Artifact, stated: Stated | None, trusted: bool) -> Audit:
    folder = artifact.folder
    try:
        return call(
            AUDIT,
            folder,
            artifact.manifest,
            verify=False,
            trusted=trusted,
            stated=stated,
            doing=f"Auditing {folder}",
            limits=Limits.of_file(folder),
        )
    except RopeDeployError as error:
        return _failed(artifact, error)


def _failed(artifact: Artifact, error: RopeDeployError) -> Audit:
    """The audit that `error` stopped: one failed record."""
    findings = Findings(artifact.manifest.style)
    findings.record("audit", "tables and sites of the rotations", "failed", str(error), time.perf_counter())
    return findings.audit()
