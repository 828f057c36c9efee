"""Plant a fault into an exported artifact, as an exporter with that bug would have written it."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model


def with_other_table(artifact: Path, target: Path, change) -> Path:
    """A copy of `artifact` whose sine cache is `change(cache)`; its hashes are those of the changed files."""
    shutil.copytree(artifact, target)
    model = onnx.load(target / "model.onnx", load_external_data=False)
    load_external_data_for_model(model, str(target))
    manifest = json.loads((target / "rope_deploy.json").read_text())
    name = manifest["rotations"][0]["sin_cache"]
    (cache,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = change(onnx.numpy_helper.to_array(cache).copy())
    cache.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
    (weights,) = target.glob("model.onnx.*.data")
    weights.unlink()
    onnx.save(model, target / "model.onnx", save_as_external_data=True, location=weights.name)
    return target
