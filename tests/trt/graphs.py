"""Small ONNX files and manifests for the tests of engines; the decoder itself is `tests.runtimes.toy`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from rope_deploy.artifact import TOLERANCES, Manifest, TensorInfo
from rope_deploy.options import BuildOptions
from rope_deploy.results.records import EngineRecord
from rope_deploy.trt import build_engine
from rope_deploy.trt.engine_request import Progress

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the tensorrt-rtx package"
)

PLAIN = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[batch, width, 8] x, float[batch, width, 8] y) => (float[batch, width, 8] z)
{ s = Add(x, y)
  z = Relu(s) }
"""
UNSUPPORTED = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[batch, 8] x) => (float[batch, 8] y)
{ [first] r = Relu(x)
  [culprit] b = Bernoulli <seed: float = 1.0> (r)
  [last] y = Add(b, x) }
"""
BFLOAT16 = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[batch, 8] x) => (float[batch, 8] y)
{ h = Cast <to: int = 16> (x)
  r = Relu(h)
  y = Cast <to: int = 1> (r) }
"""
UNNAMED = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[?, 8] x) => (float[?, 8] y)
{ y = Relu(x) }
"""


def engine_of(
    source: Path,
    target: Path,
    *,
    chosen: str = "",
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> EngineRecord:
    """`build_engine` with its options as keywords."""
    return build_engine(source, target, BuildOptions(**options), chosen=chosen, progress=progress)


def write_onnx(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def manifest(max_position: int = 64, *, cache: bool = True, task: str = "decoder") -> Manifest:
    """The manifest of a graph with one layer of two key-value heads of size 16, without files."""
    total = "total" if cache else "sequence"
    inputs = [
        TensorInfo("input_ids", "int64", ("batch", "sequence")),
        TensorInfo("attention_mask", "int64", ("batch", total)),
    ]
    if cache:
        inputs += [TensorInfo(f"past_key_values.0.{p}", "float32", ("batch", 2, "past", 16)) for p in ("key", "value")]
    return Manifest(
        source="test",
        model_type="test",
        task=task,
        cache=cache,
        layers=1,
        style="tables",
        opset=18,
        dtype="float32",
        angles="model",
        max_position=max_position,
        fused_attention=False,
        inputs=tuple(inputs),
        outputs=(TensorInfo("logits", "float32", ("batch", "sequence", 9)),),
        rotations=(),
        sites=(),
        tolerances=TOLERANCES["float32"],
    )
