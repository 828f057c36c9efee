"""`check --audit`: compare what files hold with what configurations say. Loads no model and runs nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, Manifest, load_manifest
from rope_deploy.artifact.subject import (
    FOLDERS,
    Kind,
    artifact_folders,
    folders_of_stray_graphs,
    graphs_in,
    is_artifact,
    subject_of,
)
from rope_deploy.audit import Audit, Expected, audit, audit_artifact, from_config, require_rotations
from rope_deploy.audit.collect_findings import Findings
from rope_deploy.errors import UsageError
from rope_deploy.graph.reading import read_rotations
from rope_deploy.graph.reading.file_facts import read_facts
from rope_deploy.options import AuditOptions
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import Report
from rope_deploy.rope.read_config import read_config_file
from rope_deploy.runs.manifest_claims import against_graph, unlisted_files
from rope_deploy.runs.progress import Progress, silent
from rope_deploy.runs.report_frame import Frame
from rope_deploy.safe_reading import CONFIG_NAME


def audit_path(path: Path, options: AuditOptions, *, progress: Progress = silent) -> Report:
    """Audit an .onnx file, an artifact, or every artifact in a folder; see `rope_deploy.api.audit`."""
    require_codes(options.fail_on)
    path = Path(path)
    frame = Frame(f"Audit of {path}", str(path), "audit")
    stated = None if options.against is None else _expected(options.against, str(options.against), options)
    audits: list[Audit] = []
    notes: list[str] = []
    for audited in _audited_paths(path):
        progress(f"Auditing {audited}")
        if is_artifact(audited):
            manifest = load_manifest(audited)
            audits.append(_audit_claims(audited, manifest))
            verify = not options.ignore_hashes
            audits.append(audit_artifact(audited, manifest, against=stated, verify=verify, fail_on=options.fail_on))
        else:
            expected = stated or _expected_beside(audited, options, notes)
            readings = require_rotations(read_rotations(audited), audited)
            audits.append(audit(readings, expected, style=audited.name, fail_on=options.fail_on))
    return _report(frame, audits, notes)


def _expected(config: Path, name: str, options: AuditOptions) -> Expected:
    return from_config(read_config_file(config), name, max_position=options.max_position)


def _expected_beside(path: Path, options: AuditOptions, notes: list[str]) -> Expected | None:
    """The rules of the configuration beside a file; without one, a note that only invariants can be checked."""
    config = path.parent / CONFIG_NAME
    if os.path.isfile(config):
        notes.append(f"Compared with {config}, which lies beside the file; --against names another.")
        return _expected(config, str(config), options)
    if os.path.isfile(path):
        notes.append(f"No rule is known for {path.name}: give --against with the model's {CONFIG_NAME}.")
    return None


def _audit_claims(folder: Path, manifest: Manifest) -> Audit:
    """A manifest that is not true of its graph is one mistake more: the graph is audited all the same."""
    findings = Findings(manifest.style)
    if faults := list(against_graph(manifest, read_facts(folder / MODEL_NAME))):
        findings.mistake("RD607", " ".join(faults), MANIFEST_NAME)
    if extra := unlisted_files(folder, manifest):
        findings.notes.append(f"{folder.name}: not listed in the manifest: {', '.join(extra)}.")
    return findings.audit()


def _report(frame: Frame, audits: Sequence[Audit], notes: Sequence[str]) -> Report:
    return frame.report(
        checks=tuple(record for one in audits for record in one.checks),
        diagnoses=tuple(record for one in audits for record in one.diagnoses),
        notes=tuple(dict.fromkeys([*notes, *(note for one in audits for note in one.notes)])),
    )


def _audited_paths(path: Path) -> list[Path]:
    """The artifact folders and .onnx files that `path` stands for."""
    subject = subject_of(path)
    if subject.kind not in FOLDERS:
        return [path]
    artifacts = artifact_folders(path)
    if subject.kind is Kind.ARTIFACT:
        return [path]
    if artifacts != (path,):
        # A graph without a manifest is not passed over: it is a file like any other.
        return [*artifacts, *(graph for stray in folders_of_stray_graphs(path) for graph in graphs_in(stray))]
    if files := ([path / MODEL_NAME] if (path / MODEL_NAME).is_file() else graphs_in(path)):
        return files
    names = sorted(entry.name for entry in path.iterdir())[:6]
    raise UsageError(
        f"{path} has nothing to audit.",
        exists=f"It holds: {', '.join(names)}." if names else "It is empty.",
        todo="Give an .onnx file, an artifact made by `rope-deploy export`, or a folder of either.",
    )
