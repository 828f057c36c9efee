"""Positions outside the table: refused by this package's runtime, and never a wrong number in anybody else's."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from rope_deploy.artifact import MODEL_NAME, load_manifest
from rope_deploy.errors import PositionOutOfRange
from rope_deploy.export import write
from rope_deploy.runtimes import empty_past, open_ort
from tests import tiny
from tests.families.prepared import prepared

LAYOUTS = [("tables", True), ("onnx", True), ("plugin", True), ("contrib", False)]


def feeds(manifest, *positions: list[int]) -> dict[str, np.ndarray]:
    """A prompt with one row for each list of positions."""
    placed = np.array(positions)
    ids = np.arange(3, 3 + placed.shape[1])[None].repeat(len(placed), 0)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": placed}
    return {**given, **empty_past(manifest, len(placed))}


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda one: one[0])
def folder(request, tmp_path_factory):
    style, fused = request.param
    out = tmp_path_factory.mktemp("positions") / style
    write(prepared("llama"), out, style, fused_attention=fused)
    return out


@pytest.mark.parametrize("outside", [-1, tiny.POSITIONS, 10**9])
def test_a_position_outside_the_table(folder, outside):
    manifest = load_manifest(folder)
    given = feeds(manifest, [0, 1, 2], [0, 1, outside])
    with open_ort(folder) as runtime, pytest.raises(PositionOutOfRange) as caught:
        runtime.run(given)
    assert caught.value.exit_code == 2
    session = onnxruntime.InferenceSession(str(folder / MODEL_NAME), providers=["CPUExecutionProvider"])
    inside, beyond = session.run(["logits"], given)[0]
    assert np.isnan(beyond[2]).all(), "a wrong position must not give a number"
    assert np.isfinite(inside).all(), "other rows do not see it"


def test_the_last_position_of_the_table_is_inside(folder):
    manifest = load_manifest(folder)
    with open_ort(folder) as runtime:
        logits = runtime.run(feeds(manifest, [0, 1, tiny.POSITIONS - 1]))["logits"]
    assert np.isfinite(logits).all()
