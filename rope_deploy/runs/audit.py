"""`check --audit`: what files hold, against what configurations say. Loads no model and runs nothing."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, load_manifest
from rope_deploy.errors import UsageError
from rope_deploy.graph.reading import read_rotations
from rope_deploy.parity.audit import Audit, Expected, audit, audit_artifact, from_config, require_rotations
from rope_deploy.parity.audit.results import Findings
from rope_deploy.report.codes import CODES
from rope_deploy.report.records import Report
from rope_deploy.rope.config_file import CONFIG_NAME, read_config_file
from rope_deploy.runs.frame import Frame, Progress
from rope_deploy.runs.opened import Opened


def audit_path(
    subject: Path,
    *,
    against: Path | None = None,
    max_position: int | None = None,
    fail_on: Collection[str] = (),
    verify: bool = True,
    progress: Progress = lambda step: None,
) -> Report:
    """Audit an .onnx file, an artifact, or every artifact in a folder; see `rope_deploy.api.audit`."""
    if strange := [code for code in fail_on if code not in CODES]:
        raise UsageError(f"There is no code {', '.join(strange)}.", todo="docs/diagnostics.md lists them.")
    subject = Path(subject)
    frame = Frame(f"Audit of {subject}", str(subject))
    stated = (
        None if against is None else from_config(read_config_file(against), str(against), max_position=max_position)
    )
    found, notes = [], []
    for path in _files(subject):
        progress(f"Auditing {path}")
        if (path / MANIFEST_NAME).is_file():
            manifest = load_manifest(path)
            found.append(audit_artifact(path, manifest, against=stated, verify=verify, fail_on=fail_on))
        else:
            expected = stated or _beside(path, max_position, notes)
            readings = require_rotations(read_rotations(path), path)
            found.append(audit(readings, expected, style=path.name, fail_on=fail_on))
    return report_of(frame, found, notes)


def audit_first(opened: Opened) -> Audit:
    """The audit of an artifact as the first part of a check: what stops it is a failed record, and the cases go on.

    Hashes are the check's to compare. Every row of every table is looked at, those that no case visits among them.
    """
    try:
        return audit_artifact(opened.folder, opened.manifest, verify=False)
    except UsageError as error:
        findings = Findings(opened.manifest.style)
        findings.record("audit", "tables and places of the rotations", "failed", str(error), time.perf_counter())
        return findings.audit()


def report_of(frame: Frame, found: list[Audit], notes: list[str]) -> Report:
    return frame.report(
        checks=tuple(record for one in found for record in one.checks),
        diagnoses=tuple(record for one in found for record in one.diagnoses),
        notes=tuple(dict.fromkeys([*notes, *(note for one in found for note in one.notes)])),
    )


def _files(subject: Path) -> list[Path]:
    """The artifact folders or .onnx files that `subject` stands for."""
    if not subject.is_dir():
        return [subject]
    if (subject / MANIFEST_NAME).is_file():
        return [subject]
    if inside := sorted(path.parent for path in subject.glob(f"*/{MANIFEST_NAME}")):
        return inside
    if files := ([subject / MODEL_NAME] if (subject / MODEL_NAME).is_file() else sorted(subject.glob("*.onnx"))):
        return files
    names = sorted(entry.name for entry in subject.iterdir())[:6]
    raise UsageError(
        f"{subject} has nothing to audit.",
        exists=f"It holds: {', '.join(names)}." if names else "It is empty.",
        todo="Give an .onnx file, an artifact made by `rope-deploy export`, or a folder of either.",
    )


def _beside(path: Path, max_position: int | None, notes: list[str]) -> Expected | None:
    """The configuration beside a file; without one, a note that only invariants can be checked."""
    config = path.parent / CONFIG_NAME
    if config.is_file():
        notes.append(f"Compared with {config}, which lies beside the file; --against names another.")
        return from_config(read_config_file(config), str(config), max_position=max_position)
    if path.is_file():
        notes.append(f"No rule is known for {path.name}: give --against with the model's {CONFIG_NAME}.")
    return None
