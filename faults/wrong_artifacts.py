"""Artifacts with a planted mistake. Whatever their manifest says, no check may pass them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model

from faults import wrong_graphs
from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, hash_file

Document = dict[str, Any]
HEAD_DIM = 16  # of the model that fuzz/seeds.py makes
BASE = 10_000.0  # of the default rule; that model has another base and another rule

WRONG: dict[str, wrong_graphs.GraphChange] = {
    "head": wrong_graphs.exchanged_halves,
    "theta": wrong_graphs.other_base(BASE),
    "backwards": wrong_graphs.negated_sine,
    "row": wrong_graphs.copied_row(5, source=6),
    "last row": wrong_graphs.copied_row(-2, source=-3),
    "layout": wrong_graphs.neighbouring_pairs(HEAD_DIM),
    "offset": wrong_graphs.positions_plus_one,
}
OF_TABLES = ("theta", "backwards", "row", "last row")


def make_wrong(folder: Path, kind: str) -> None:
    """Plant the mistake `kind` of WRONG into the artifact in `folder`. Its hashes stay those of the sound files."""
    change_graph(folder, WRONG[kind])


def change_graph(folder: Path, *changes: wrong_graphs.GraphChange) -> None:
    """Apply `changes` to the graph and weights of the artifact in `folder`, under the names they have."""
    model = onnx.load(folder / MODEL_NAME, load_external_data=False)
    load_external_data_for_model(model, str(folder))
    for change in changes:
        change(model)
    files = list(folder.glob(f"{MODEL_NAME}.*.data"))
    assert len(files) <= 1, "an export writes one file of weights"
    for file in files:
        file.unlink()
    stored = {"save_as_external_data": True, "location": files[0].name, "size_threshold": 1024} if files else {}
    onnx.save(model, folder / MODEL_NAME, **stored)


def tampered(
    artifact: Path, target: Path, edit_manifest: Callable[[Document], None], *changes: wrong_graphs.GraphChange
) -> Path:
    """A copy of `artifact` with changes of its graph, hashes to match, and then an edit of its manifest."""
    shutil.copytree(artifact, target)
    if changes:
        change_graph(target, *changes)
    path = target / MANIFEST_NAME
    document = json.loads(path.read_text())
    for file in (target / MODEL_NAME, *target.glob(f"{MODEL_NAME}.*.data")):
        info = hash_file(file)
        document["files"][file.name] = {"bytes": info.bytes, "sha256": info.sha256}
    edit_manifest(document)
    path.write_text(json.dumps(document))
    return target


def with_other_sine(artifact: Path, target: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy of `artifact` whose sine cache is `change` of it. Its hashes stay those of the sound files."""
    shutil.copytree(artifact, target)
    name = json.loads((target / MANIFEST_NAME).read_text())["rotations"][0]["sin_cache"]
    change_graph(target, lambda model: wrong_graphs.change_constant(model, name, change))
    return target
