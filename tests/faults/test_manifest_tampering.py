"""Every tampering fits the manifest that an export writes, and every mistake changes what is computed."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from faults.manifest_tampering import TAMPERINGS, apply_tampering, random_tampering
from faults.wrong_artifacts import OF_TABLES, WRONG, make_wrong
from fuzz.case import Case, rebuild
from fuzz.seeds import STYLES
from rope_deploy import api
from rope_deploy.artifact import MANIFEST_NAME, changed_files, load_manifest
from tests import tiny


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    tiny.save_family("llama", folder / "model", num_hidden_layers=1)
    api.export(api.load(str(folder / "model")), folder / "artifacts", styles=STYLES)
    return folder


def answer(folder: Path) -> np.ndarray:
    ids = np.arange(1, 11)[None]
    past = {f"past_key_values.0.{name}": np.zeros((1, 2, 0, 16), np.float32) for name in ("key", "value")}
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": ids - 1, **past}
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return np.concatenate([out.ravel() for out in session.run(["logits", "present.0.key"], feeds)])


@pytest.mark.parametrize("kind", sorted({*WRONG} - {"last row"}))
@pytest.mark.parametrize("style", ["tables", "onnx", "contrib"])
def test_a_wrong_artifact_computes_something_else(seeds, tmp_path, style, kind):
    folder = Path(shutil.copytree(seeds / "artifacts" / style, tmp_path / "a"))
    right = answer(folder)
    make_wrong(folder, kind)
    assert np.abs(answer(folder) - right).max() > 1e-3


def test_the_last_row_is_that_of_the_last_position(seeds, tmp_path):
    folder = Path(shutil.copytree(seeds / "artifacts/tables", tmp_path / "a"))
    make_wrong(folder, "last row")
    report = api.audit(folder, ignore_hashes=True)
    assert report.verdict == "failed"
    assert "Positions beyond 126" in " ".join(record.message for record in report.checks)
    assert {*OF_TABLES} < {*WRONG}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_variant_changes_something(seeds, tmp_path, name):
    variants = TAMPERINGS[name][1]
    unchanged = 0
    for number in range(len(variants)):
        folder = tmp_path / str(number)
        for part in ("wrong", "sound"):
            shutil.copytree(seeds / "artifacts/tables", folder / part)
        before = contents(folder)
        apply_tampering(folder / "wrong" / MANIFEST_NAME, f"tamper.{name}", [number])
        unchanged += contents(folder) == before
    assert unchanged <= 1, "what an export has already written is one variant"


def contents(folder: Path) -> dict[str, object]:
    """Manifests as documents: they are written anew, in other words."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_random_tamperings_can_be_kept_and_hashes_are_redone(seeds, tmp_path):
    edit = random_tampering(random.Random(0), f"input/a/{MANIFEST_NAME}")
    assert json.loads(json.dumps(edit)) == edit
    chosen = {"style": "tables", "form": "chain", "other": "onnx", "wrong": "head"}
    rebuild(
        Case("tampered artifact", chosen, [[f"input/a/{MANIFEST_NAME}", "tamper.findings", 0]]),
        seeds,
        tmp_path,
        tmp_path,
    )
    folder = tmp_path / "input/a"
    assert changed_files(folder, load_manifest(folder)) == []
    assert (folder / "model.onnx").read_bytes() == (seeds / "artifacts/tables/model.onnx").read_bytes()
