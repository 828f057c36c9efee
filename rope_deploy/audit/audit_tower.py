"""Audit the tables of a tower: by the rule that its manifest states, or by what holds of every rotation.

Only positions along one axis have a rule; rows and columns of an image have none. table_invariants.py does not serve
here: tokens of an image do not advance by even steps, and TOWER_ROUNDING is wider than what is allowed there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rope_deploy.artifact import MODEL_NAME, Manifest, Rotation
from rope_deploy.audit.collect_findings import Audit, Findings
from rope_deploy.audit.compare_table import difference_from_rule
from rope_deploy.audit.table_tolerances import TOWER_ROUNDING
from rope_deploy.graph.io import read_model
from rope_deploy.results.wording import layers as layers_of
from rope_deploy.rope import RopeSpec


def audit_tower(folder: Path, manifest: Manifest) -> Audit:
    """Whether every table has a row for each token and a NaN row behind them, keeps lengths, and follows its rule.

    Raises UsageError for a file that is not ONNX.
    """
    began, findings = time.perf_counter(), Findings(manifest.style)
    stored = read_model(folder / MODEL_NAME).graph.initializers
    for rotation in manifest.rotations:
        layers = sorted({site.layer for site in manifest.sites if site.rotation == rotation.name})
        for code, text in _faults(rotation, stored, TOWER_ROUNDING[manifest.dtype]):
            findings.mistake(code, text, f"{rotation.name}, {layers_of(layers)}", layers=layers)
    failed = bool(findings.diagnoses)
    message = " ".join(one.explanation for one in findings.diagnoses) if failed else _tables_text(manifest)
    detail = "a row for each token, cos² + sin² the same everywhere"
    findings.record("tables", detail, "failed" if failed else "passed", message, began)
    if not all(rotation.spec for rotation in manifest.rotations):
        text = "no rule is stated for rows and columns; tables were held to be rotations."
        findings.notes.append(f"{manifest.style}: {text}")
    return findings.audit()


def _tables_text(manifest: Manifest) -> str:
    rows = sorted({rotation.rows for rotation in manifest.rotations})
    return f"{len(manifest.sites)} sites from {len(manifest.rotations)} tables of {', '.join(map(str, rows))} rows."


def _faults(rotation: Rotation, stored, allowed: float) -> Iterator[tuple[str, str]]:
    """Code and sentence of what is wrong with the tables of one rotation."""
    if rotation.cos_cache is None and rotation.sin_cache is None:
        return  # small tables become part of other constants when the graph is folded; running it shows them
    values = [stored.get(name) for name in (rotation.cos_cache, rotation.sin_cache)]
    if any(value is None for value in values):
        yield "RD601", f"The file has no {rotation.cos_cache} and {rotation.sin_cache}."
        return
    cos, sin = (value.const_value.numpy().astype(np.float64) for value in values)
    if cos.shape != sin.shape or cos.shape[0] != rotation.rows + 1:
        yield "RD207", f"The tables have {len(cos) - 1} and {len(sin) - 1} rows; there are {rotation.rows} tokens."
        return
    if not (np.isnan(cos[-1]).all() and np.isnan(sin[-1]).all()):
        yield "RD206", "The row behind the last token is a number: what lies outside would go unseen."
    squares = cos[:-1] ** 2 + sin[:-1] ** 2
    scale = float(np.median(squares))
    off = np.abs(squares - scale).max(axis=1)
    if not (off <= allowed * max(scale, allowed)).all():
        row = int(np.nan_to_num(off, nan=np.inf).argmax())
        yield "RD403", f"cos² + sin² is {squares[row].min():.4g} in row {row}; elsewhere it is {scale:.4g}."
    elif rotation.spec:
        error, row = difference_from_rule(cos[:-1], sin[:-1], RopeSpec.from_dict(rotation.spec))
        if error > allowed:
            yield "RD900", f"The tables are off by {error:.2g} in row {row} from the rule in the manifest."
