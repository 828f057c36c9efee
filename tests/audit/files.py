"""Small decoders as exporters write them, their rotations right or wrong as a test asks.

Two layers (or more) of [B, S, 32] with 2 heads of 16: q and k are rotated, multiplied, and the result goes to the next
layer. Weights play no part in an audit, so there are none but matrices of no interest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rope_deploy.rope import RopeSpec, specs_from_config, tables

HEADS, HEAD, WIDTH, POSITIONS = 2, 16, 32, 128
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
FORMS = ("chain", "standard", "contrib", "fused")
Tables = tuple[np.ndarray, np.ndarray]


def config(**changed: Any) -> dict[str, Any]:
    return {**CONFIG, **changed}


def rule(rope_type: str, **parameters: Any) -> dict[str, Any]:
    """A configuration with another scaling rule."""
    return config(rope_parameters={"rope_type": rope_type, "rope_theta": 10_000.0, **parameters})


def spec_of(stated: dict[str, Any]) -> RopeSpec:
    return next(iter(specs_from_config(stated).values()))


def stored(stated: dict[str, Any], rows: int = POSITIONS, length: int | None = None) -> Tables:
    """The right table of a configuration with one rule."""
    return tables(spec_of(stated), rows, seq_len=length)


@dataclass
class Decoder:
    """What to write. `tables` are stored caches [rows, R/2]; without them `inv_freq` is made into cos and sin.

    `layers` are those that are rotated, of `count`; `roles` which of q and k. `angle_type` and `frequency_type` are
    the ONNX types that angles and frequencies are computed in. `shape` is (B, S). `rows` works on position_ids before
    a table is read. `position_shape` is the shape of position_ids where it is another than (B, S).
    """

    form: str = "chain"
    tables: Tables | None = None
    inv_freq: np.ndarray | None = None
    layers: Sequence[int] = (0, 1)
    count: int = 2
    roles: Sequence[str] = ("q", "k")
    interleaved: bool = False
    rotary_dim: int = HEAD
    scale: float = 1.0
    angle_type: int = TensorProto.FLOAT
    frequency_type: int = TensorProto.FLOAT
    matmul: bool = False
    positions: str = "input"
    cached: bool = False
    shape: tuple[str | int, str | int] = ("b", "s")
    rows: Callable[[Writer, str], str] | None = None
    extra: Callable[[Writer], Tables] | None = field(default=None)
    position_shape: Sequence[str | int] | None = None


class Writer:
    """Collects nodes and constants; every value has the name of its node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def op(self, op_type: str, *inputs: str, name: str = "", outputs: int = 1, domain: str = "", **attributes):
        name = name or f"{op_type}_{len(self.nodes)}"
        results = [name if outputs == 1 else f"{name}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, results, name=name, domain=domain, **attributes))
        return results[0] if outputs == 1 else results

    def constant(self, value: Any, name: str = "", dtype: Any = np.int64) -> str:
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype)
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name


def write(path: Path, decoder: Decoder, stated: dict[str, Any] | None = None) -> Path:
    """The file, and config.json beside it where one is stated."""
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model(decoder), path)
    if stated is not None:
        (path.parent / "config.json").write_text(json.dumps(stated))
    return path


def model(decoder: Decoder) -> onnx.ModelProto:
    to, h = Writer(), "inputs_embeds"
    inputs = [helper.make_tensor_value_info(h, TensorProto.FLOAT, [*decoder.shape, WIDTH])]
    if decoder.positions == "input":
        position_shape = decoder.shape if decoder.position_shape is None else decoder.position_shape
        inputs.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, [*position_shape]))
    if decoder.cached or decoder.form == "fused":
        for layer in range(decoder.count):
            shape = ["b", HEADS, "past", HEAD]
            for kind in ("key", "value"):
                name = f"past_key_values.{layer}.{kind}"
                inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    if decoder.form == "fused":
        inputs.append(helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["b"]))
        inputs.append(helper.make_tensor_value_info("total", TensorProto.INT32, []))
    outputs = ["y"]
    rotation = _Rotation(to, decoder)
    for layer in range(decoder.count):
        h = _layer(to, decoder, rotation, layer, h, outputs)
    to.op("Identity", h, name="y")
    shapes = {"y": [*decoder.shape, WIDTH]}
    graph = helper.make_graph(
        to.nodes,
        "decoder",
        inputs,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes.get(n, ["b", HEADS, None, HEAD])) for n in outputs],
        list(to.constants.values()),
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


def _layer(to: Writer, decoder: Decoder, rotation: _Rotation, layer: int, h: str, outputs: list[str]) -> str:
    stem = f"/model/layers.{layer}/attn"
    flat = {}
    for number, role in enumerate("qkv"):  # no two alike, or they would be one
        weight = np.eye(WIDTH, dtype=np.float32) * (1 + number + 3 * layer)
        flat[role] = to.op(
            "MatMul", h, to.constant(weight, f"model.layers.{layer}.{role}.weight"), name=f"{stem}/{role}_proj"
        )
    if decoder.form == "fused":
        past = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
        rotated = rotation.rotates(layer, "q")
        caches = [rotation.cos, rotation.sin] if rotated else ["", ""]
        present = [f"present.{layer}.{kind}" for kind in ("key", "value")]
        outputs += present
        node = helper.make_node(
            "GroupQueryAttention",
            [*flat.values(), *past, "seqlens_k", "total", *caches],
            [f"{stem}/out", *present],
            name=f"{stem}/GroupQueryAttention",
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=HEADS,
            do_rotary=int(rotated),
            rotary_interleaved=int(decoder.interleaved),
        )
        to.nodes.append(node)
        return f"{stem}/out"
    heads = {}
    for role in "qkv":
        split = to.op("Reshape", flat[role], to.constant([0, 0, HEADS, HEAD]))
        heads[role] = to.op("Transpose", split, perm=[0, 2, 1, 3])
    q, k = (rotation.apply(heads[role], layer, role, stem) for role in "qk")
    if decoder.cached:
        k = to.op("Concat", f"past_key_values.{layer}.key", k, axis=2, name=f"present.{layer}.key")
        heads["v"] = to.op(
            "Concat", f"past_key_values.{layer}.value", heads["v"], axis=2, name=f"present.{layer}.value"
        )
        outputs += [k, heads["v"]]
    scores = to.op("MatMul", q, to.op("Transpose", k, perm=[0, 1, 3, 2]), name=f"{stem}/scores")
    out = to.op("Transpose", to.op("MatMul", scores, heads["v"]), perm=[0, 2, 1, 3])
    return to.op("Reshape", out, to.constant([0, 0, WIDTH]), name=f"{stem}/out")


class _Rotation:
    """cos and sin of the calls, made once, and their use in a layer."""

    def __init__(self, to: Writer, decoder: Decoder):
        self._to, self._decoder = to, decoder
        self._positions = self._counted() if decoder.positions != "input" else "position_ids"
        if decoder.rows is not None:
            self._positions = decoder.rows(to, self._positions)
        self.cos, self.sin = self._made()

    def rotates(self, layer: int, role: str) -> bool:
        return layer in self._decoder.layers and role in self._decoder.roles

    def _counted(self) -> str:
        to = self._to
        length = to.op("Gather", to.op("Shape", "inputs_embeds"), to.constant(1))
        start = to.constant(0)
        if self._decoder.positions == "from the past":
            start = to.op("Gather", to.op("Shape", "past_key_values.0.key"), to.constant(2))
        end = to.op("Add", start, length)
        return to.op("Unsqueeze", to.op("Range", start, end, to.constant(1)), to.constant([0]))

    def _made(self) -> tuple[str, str]:
        """[rows, R/2] for operators with a table, else [B, S, R/2]."""
        to, decoder = self._to, self._decoder
        if decoder.extra is not None:
            return decoder.extra(to)
        if decoder.tables is not None:
            caches = tuple(to.constant(t, f"{n}_cache") for n, t in zip(("cos", "sin"), decoder.tables, strict=True))
            if decoder.form != "chain":
                return caches
            return tuple(to.op("Gather", cache, self._positions, axis=0) for cache in caches)
        frequencies = decoder.inv_freq
        if frequencies is None:
            frequencies = (1 / 10_000 ** (np.arange(0, decoder.rotary_dim, 2) / decoder.rotary_dim)).astype(np.float32)
        held = to.constant(frequencies, "inv_freq")
        for kind in dict.fromkeys((decoder.frequency_type, decoder.angle_type)):
            if kind != TensorProto.FLOAT:
                held = to.op("Cast", held, to=kind)
        if decoder.angle_type == TensorProto.FLOAT != decoder.frequency_type:
            held = to.op("Cast", held, to=TensorProto.FLOAT)
        at = to.op("Unsqueeze", to.op("Cast", self._positions, to=decoder.angle_type), to.constant([-1]))
        if decoder.matmul:
            angle = to.op("MatMul", at, to.op("Unsqueeze", held, to.constant([0])))
        else:
            angle = to.op("Mul", at, held)
        made = [to.op(kind, angle, name=f"/model/rotary/{kind}") for kind in ("Cos", "Sin")]
        made = [to.op("Cast", one, to=TensorProto.FLOAT) for one in made]
        if decoder.scale != 1:
            made = [to.op("Mul", one, to.constant(decoder.scale, dtype=np.float32)) for one in made]
        return made[0], made[1]

    def apply(self, x: str, layer: int, role: str, stem: str) -> str:
        if not self.rotates(layer, role):
            return x
        to, decoder, width = self._to, self._decoder, self._decoder.rotary_dim
        if decoder.form in ("standard", "contrib"):
            rows = [self._positions] if decoder.tables is not None else []
            order = [x, *rows, self.cos, self.sin] if decoder.form == "contrib" else [x, self.cos, self.sin, *rows]
            return to.op(
                "RotaryEmbedding",
                *order,
                name=f"{stem}/{role}_rotary/RotaryEmbedding",
                domain="com.microsoft" if decoder.form == "contrib" else "",
                interleaved=int(decoder.interleaved),
                rotary_embedding_dim=width if width < HEAD else 0,
                num_heads=HEADS,
            )
        rest = None
        if width < HEAD:
            x, rest = to.op("Split", x, to.constant([width, HEAD - width]), axis=-1, outputs=2)
        cos, sin = (to.op("Unsqueeze", half, to.constant([1])) for half in (self.cos, self.sin))
        if decoder.interleaved:
            pair = to.op("Reshape", x, to.constant([0, 0, 0, -1, 2]))
            first, second = (to.op("Gather", pair, to.constant(n), axis=-1) for n in (0, 1))
        else:
            first, second = to.op("Split", x, axis=-1, num_outputs=2, outputs=2)
        a = to.op("Sub", to.op("Mul", first, cos), to.op("Mul", second, sin), name=f"{stem}/{role}_rotary/Sub")
        b = to.op("Add", to.op("Mul", second, cos), to.op("Mul", first, sin), name=f"{stem}/{role}_rotary/Add")
        if decoder.interleaved:
            ends = [to.op("Unsqueeze", one, to.constant([-1])) for one in (a, b)]
            y = to.op("Reshape", to.op("Concat", *ends, axis=-1), to.constant([0, 0, 0, width]))
        else:
            y = to.op("Concat", a, b, axis=-1)
        return y if rest is None else to.op("Concat", y, rest, axis=-1)
