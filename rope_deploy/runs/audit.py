"""`check --audit`: what files hold, against what configurations say. Loads no model and runs nothing."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Executor, Future
from pathlib import Path

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, Manifest, load_manifest
from rope_deploy.audit import Audit, Expected, audit, audit_artifact, from_config, require_rotations, stated_by
from rope_deploy.audit.audit_artifact import Stated
from rope_deploy.audit.collect_findings import Findings
from rope_deploy.childprocess import Limits, call
from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.graph.reading import read_rotations
from rope_deploy.graph.reading.file_facts import read_facts
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import Report
from rope_deploy.rope.read_config import CONFIG_NAME, read_config_file
from rope_deploy.runs.manifest_claims import against_graph, unlisted
from rope_deploy.runs.open_artifact import Opened, artifact_folders, passed_over
from rope_deploy.runs.report_frame import Frame, Progress

AUDIT = "rope_deploy.audit:audit_artifact"


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
    require_codes(fail_on)
    subject = Path(subject)
    frame = Frame(f"Audit of {subject}", str(subject), "audit")
    stated = (
        None if against is None else from_config(read_config_file(against), str(against), max_position=max_position)
    )
    found, notes = [], []
    for path in _files(subject):
        progress(f"Auditing {path}")
        if (path / MANIFEST_NAME).is_file():
            manifest = load_manifest(path)
            found.append(_claims(path, manifest))
            found.append(audit_artifact(path, manifest, against=stated, verify=verify, fail_on=fail_on))
        else:
            expected = stated or _beside(path, max_position, notes)
            readings = require_rotations(read_rotations(path), path)
            found.append(audit(readings, expected, style=path.name, fail_on=fail_on))
    return report_of(frame, found, notes)


def first_audits(artifacts: Collection[Opened], pool: Executor, *, trusted: bool = True) -> dict[Path, Future[Audit]]:
    """The audits of artifacts as the first part of a check, by folder: what stops one is a failed record, and the cases
    go on.

    Hashes are the check's to compare. Every row of every table is looked at, those that no case visits among them. Each
    has a process of its own, as the runtimes of the cases have, which a thread of `pool` waits for. The configuration
    is read before, by the caller's thread: transformers' classes parse their own source, and Python's parser bears no
    two threads. `trusted`: what the manifest accepts is accepted, since the model itself is compared.
    """
    found = {}
    for opened in artifacts:
        try:
            # With a model to compare, this process has PyTorch anyway; without one it must not load it.
            known = trusted and opened.manifest.task != "tower"
            stated = stated_by(opened.folder, opened.manifest) if known else None
        except RopeDeployError as error:
            found[opened.folder] = pool.submit(_stopped, opened, error)
        else:
            found[opened.folder] = pool.submit(_audited, opened, stated, trusted)
    return found


def _audited(opened: Opened, stated: Stated | None, trusted: bool) -> Audit:
    folder = opened.folder
    try:
        return call(
            AUDIT,
            folder,
            opened.manifest,
            verify=False,
            trusted=trusted,
            stated=stated,
            doing=f"Auditing {folder}",
            limits=Limits.of_file(folder),
        )
    except RopeDeployError as error:
        return _stopped(opened, error)


def _stopped(opened: Opened, error: RopeDeployError) -> Audit:
    findings = Findings(opened.manifest.style)
    findings.record("audit", "tables and places of the rotations", "failed", str(error), time.perf_counter())
    return findings.audit()


def _claims(folder: Path, manifest: Manifest) -> Audit:
    """A manifest that is not true of its graph is one mistake more: the graph is audited all the same."""
    findings = Findings(manifest.style)
    if faults := list(against_graph(manifest, read_facts(folder / MODEL_NAME))):
        findings.mistake("RD607", " ".join(faults), MANIFEST_NAME)
    if extra := unlisted(folder, manifest):
        findings.notes.append(f"{folder.name}: not listed in the manifest: {', '.join(extra)}.")
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
    artifacts = artifact_folders(subject)
    if (subject / MANIFEST_NAME).is_file():
        return [subject]
    if artifacts != (subject,):
        # A graph without a manifest is not passed over: it is a file like any other.
        return [*artifacts, *(graph for stray in passed_over(subject) for graph in _graphs(stray))]
    if files := ([subject / MODEL_NAME] if (subject / MODEL_NAME).is_file() else sorted(subject.glob("[!.]*.onnx"))):
        return files
    names = sorted(entry.name for entry in subject.iterdir())[:6]
    raise UsageError(
        f"{subject} has nothing to audit.",
        exists=f"It holds: {', '.join(names)}." if names else "It is empty.",
        todo="Give an .onnx file, an artifact made by `rope-deploy export`, or a folder of either.",
    )


def _graphs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() == ".onnx")


def _beside(path: Path, max_position: int | None, notes: list[str]) -> Expected | None:
    """The configuration beside a file; without one, a note that only invariants can be checked."""
    config = path.parent / CONFIG_NAME
    if config.is_file():
        notes.append(f"Compared with {config}, which lies beside the file; --against names another.")
        return from_config(read_config_file(config), str(config), max_position=max_position)
    if path.is_file():
        notes.append(f"No rule is known for {path.name}: give --against with the model's {CONFIG_NAME}.")
    return None
