"""Rotations written as ONNX text, in every form that we have met, and ways to run them."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common

from rope_deploy.rope import rotate

ROWS = 16  # positions of the tables in these tests
ONNX_TYPES = {"float32": "float", "float16": "float16", "bfloat16": "bfloat16"}
NUMPY_TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
CODES = {"float32": 1, "float16": 10, "bfloat16": 16}

CONSTANTS = (
    "int64[1] last = {-1}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, "
    "int64[1] end = {9223372036854775807}"
)
# cos and sin [B, S, R/2] of the positions, in the type of the activations.
ANGLES = """
  p = Cast <to = 1> (position_ids)
  column = Unsqueeze(p, last)
  angle = Mul(column, inv_freq)
  cos32 = Cos(angle)
  sin32 = Sin(angle)
  cos = Cast <to = {code}> (cos32)
  sin = Cast <to = {code}> (sin32)
"""
HALF_WIDTH = """
  c = Unsqueeze(cos, heads_axis)
  s = Unsqueeze(sin, heads_axis)
"""
DOUBLED = """
  cos2 = Concat <axis = -1> (cos, cos)
  sin2 = Concat <axis = -1> (sin, sin)
  c = Unsqueeze(cos2, heads_axis)
  s = Unsqueeze(sin2, heads_axis)
"""
REPEATED = """
  cos1 = Unsqueeze(cos, last)
  sin1 = Unsqueeze(sin, last)
  cos_pair = Concat <axis = -1> (cos1, cos1)
  sin_pair = Concat <axis = -1> (sin1, sin1)
  cos2 = Reshape(cos_pair, flat)
  sin2 = Reshape(sin_pair, flat)
  c = Unsqueeze(cos2, heads_axis)
  s = Unsqueeze(sin2, heads_axis)
"""
HALVES = """
  x1 = Slice(t, zero, half, last)
  x2 = Slice(t, half, end, last)
"""
EVENS_AND_ODDS = """
  x1 = Slice(t, zero, end, last, two)
  x2 = Slice(t, one, end, last, two)
"""
MULTIPLY_ADD = """
  straight = Mul(t, c)
  crossed = Mul(r, s)
  rotated = Add(straight, crossed)
"""
STACKED_PAIR = """
  n1 = Unsqueeze({first}, last)
  n2 = Unsqueeze({second}, last)
  stacked = Concat <axis = -1> (n1, n2)
  {out} = Reshape(stacked, joined)
"""
TWO_SUMS = """
  a1 = Mul(x1, c)
  b1 = Mul(x2, s)
  y1 = Sub(a1, b1)
  a2 = Mul(x2, c)
  b2 = Mul(x1, s)
  y2 = Add(a2, b2)
"""
# name: (interleaved, body); t is the tensor to rotate, `rotated` the result.
FORMS: dict[str, tuple[bool, str]] = {
    "rotate_half": (False, DOUBLED + HALVES + "n = Neg(x2)\n r = Concat <axis = -1> (n, x1)" + MULTIPLY_ADD),
    "split_halves": (False, HALF_WIDTH + HALVES + TWO_SUMS + "rotated = Concat <axis = -1> (y1, y2)"),
    "split_operator": (
        False,
        HALF_WIDTH + "x1, x2 = Split <axis = -1, num_outputs = 2> (t)" + TWO_SUMS
        + "rotated = Concat <axis = -1> (y1, y2)",
    ),
    "subtracted": (
        False,
        DOUBLED + HALVES + "n = Neg(x1)\n r = Concat <axis = -1> (x2, n)\n"
        "straight = Mul(c, t)\n crossed = Mul(s, r)\n rotated = Sub(straight, crossed)",
    ),
    "negated_product": (
        False,
        DOUBLED + HALVES + "n = Neg(x1)\n r = Concat <axis = -1> (x2, n)\n"
        "straight = Mul(t, c)\n crossed = Mul(r, s)\n minus = Neg(crossed)\n rotated = Add(minus, straight)",
    ),
    "negated_sine": (
        False,
        DOUBLED + HALVES + "minus = Neg(s)\n n = Neg(x1)\n r = Concat <axis = -1> (x2, n)\n"
        "straight = Mul(t, c)\n crossed = Mul(r, minus)\n rotated = Add(straight, crossed)",
    ),
    "rolled_view": (
        False,
        HALF_WIDTH + "minus = Neg(s)\n cc = Concat <axis = -1> (c, c)\n ss = Concat <axis = -1> (minus, s)\n"
        "pairs = Reshape(t, halves_view)\n swapped = Gather <axis = 3> (pairs, exchange)\n"
        "r = Reshape(swapped, joined)\n"
        "straight = Mul(t, cc)\n crossed = Mul(r, ss)\n rotated = Add(straight, crossed)",
    ),
    "stack_and_flatten": (
        True,
        REPEATED + EVENS_AND_ODDS + "n = Neg(x2)" + STACKED_PAIR.format(first="n", second="x1", out="r") + MULTIPLY_ADD,
    ),
    "real_and_imaginary": (
        True,
        HALF_WIDTH + "pairs = Reshape(t, pairs_view)\n"
        "x1 = Gather <axis = -1> (pairs, i0)\n x2 = Gather <axis = -1> (pairs, i1)"
        + TWO_SUMS + STACKED_PAIR.format(first="y1", second="y2", out="rotated"),
    ),
}  # fmt: skip


def graph(
    body: str,
    *,
    heads_axis: int = 1,
    heads: int = 2,
    head_dim: int = 8,
    rotary_dim: int | None = None,
    dtype: str = "float32",
    angles: str = ANGLES,
    constants: str = "",
    opset: int = 18,
    result: str | None = None,
    position_axes: int | None = None,
) -> ir.Model:
    """A graph x, position_ids -> y; `body` computes y [result] from x, cos and sin. Shapes are inferred.

    position_ids is [batch, sequence], or [position_axes, batch, sequence].
    """
    width = rotary_dim or head_dim
    axes = ["batch", "sequence", "sequence", str(head_dim)]
    axes[heads_axis] = str(heads)
    shape, element = ", ".join(axes), ONNX_TYPES[dtype]
    leading = f"{position_axes}, " if position_axes else ""
    inv_freq = ", ".join(str(value) for value in frequencies(width))
    text = f"""
<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>
g ({element}[{shape}] x, int64[{leading}batch, sequence] position_ids) => ({element}[{result or shape}] y)
<float[{width // 2}] inv_freq = {{{inv_freq}}}, {CONSTANTS}, int64[1] half = {{{width // 2}}},
 int64[1] width = {{{width}}}, int64[1] heads_axis = {{{heads_axis}}}, int64[3] flat = {{0, 0, -1}},
 int64[4] joined = {{0, 0, 0, {width}}}, int64[5] pairs_view = {{0, 0, 0, -1, 2}},
 int64[5] halves_view = {{0, 0, 0, 2, -1}},
 int64[2] exchange = {{1, 0}}, int64 i0 = {{0}}, int64 i1 = {{1}} {constants}>
{{ {angles.format(code=CODES[dtype])} {body} }}"""
    model = ir.from_onnx_text(text)
    common.ShapeInferencePass()(model)
    return model


def frequencies(width: int) -> np.ndarray:
    """Radians per position of each pair, as these graphs hold them: in fp32."""
    return (1.0 / 10 ** (2 * np.arange(width // 2) / width)).astype(np.float32)


def rotation_graph(name: str, *, head_dim: int = 8, rotary_dim: int | None = None, **sizes) -> ir.Model:
    """One rotation in the form `name`; partial if `rotary_dim` is below `head_dim`."""
    body = FORMS[name][1]
    if rotary_dim in (None, head_dim):
        body = "t = Identity(x)\n" + body + "\n y = Identity(rotated)"
    else:
        body = (
            "t = Slice(x, zero, width, last)\n rest = Slice(x, width, end, last)\n"
            + body
            + "\n y = Concat <axis = -1> (rotated, rest)"
        )
    return graph(body, head_dim=head_dim, rotary_dim=rotary_dim, **sizes)


def with_tokens(model: ir.Model) -> ir.Model:
    """The graph as if x were the embeddings of the tokens in a file: with input_ids beside it."""
    tokens = ir.val("input_ids", dtype=ir.DataType.INT64, shape=ir.Shape(["batch", "sequence"]))
    model.graph.inputs.append(tokens)
    return model


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run in ONNX Runtime."""
    made = session(model)
    return dict(zip((output.name for output in made.get_outputs()), made.run(None, dict(feeds)), strict=True))


def run_slowly(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run in the ONNX reference evaluator, which knows bfloat16."""
    names = [value.name for value in model.graph.outputs]
    results = ReferenceEvaluator(ir.to_proto(model)).run(None, dict(feeds))
    return dict(zip(names, results, strict=True))


def activation(model: ir.Model, positions: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Feeds for a graph made here: random x, the given positions [B, S] or [A, B, S]."""
    batch, sequence = positions.shape[-2:]
    sizes = {"batch": batch, "sequence": sequence}
    x = model.graph.inputs[0]
    shape = [dim if isinstance(dim, int) else sizes[str(dim.value)] for dim in x.shape]
    values = np.random.default_rng(seed).standard_normal(shape).astype(x.dtype.numpy())
    return {"x": values, "position_ids": positions.astype(np.int64)}


def oracle(
    x: np.ndarray, positions: np.ndarray, *, interleaved: bool, rotary_dim: int, heads_axis: int = 1
) -> np.ndarray:
    """The fp64 rotation of `x` by the angles of `graph`."""
    angle = positions[..., None].astype(np.float64) * frequencies(rotary_dim).astype(np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    heads_first = x.astype(np.float64) if heads_axis == 1 else x.astype(np.float64).transpose(0, 2, 1, 3)
    rotated = rotate(heads_first, cos[:, None], sin[:, None], interleaved=interleaved)
    return rotated if heads_axis == 1 else rotated.transpose(0, 2, 1, 3)


POSITIONS = np.array([[0, 1, 5, 15], [9, 3, 3, 14]])
