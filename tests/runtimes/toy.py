"""A two-layer decoder small enough to read, in ONNX and again in numpy: what the tests of the upper floors run on.

Three graphs of the same weights: "onnx" rotates [B, S, N·H] with RotaryEmbedding-23, "tables" rotates [B, S, N, H]
with standard operators, "contrib" leaves rotation and cache to GroupQueryAttention. Faults can be planted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rope_deploy.artifact import (
    MANIFEST_NAME,
    MODEL_NAME,
    TOLERANCES,
    Limits,
    Manifest,
    Rotation,
    Site,
    TensorInfo,
    hash_file,
)
from rope_deploy.rope import specs_from_config

DATA_NAME = "model.onnx.data"

N, KV, H, LAYERS, VOCAB, ROWS = 4, 2, 16, 2, 61, 40
HIDDEN = N * H
FUSED_LIMITS = Limits(left_padding=False, chunked_prefill_batch=False, prompt_positions=False, note="fused")


@dataclass(frozen=True)
class Faults:
    """What to get wrong. `theta`: another rope_theta in one layer; `shift`: added to every position."""

    theta: dict[int, float] = field(default_factory=dict)
    shift: int = 0
    swap_heads: bool = False
    interleaved: bool = False
    nan_from_position: int | None = None


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    made = {
        "embed": rng.standard_normal((VOCAB, HIDDEN)),
        "unembed": rng.standard_normal((HIDDEN, VOCAB)) / HIDDEN**0.5,
    }
    for layer in range(LAYERS):
        for name, width in (("q", HIDDEN), ("k", KV * H), ("v", KV * H), ("o", HIDDEN)):
            made[f"w{name}.{layer}"] = rng.standard_normal((HIDDEN, width)) / HIDDEN**0.5
    return {name: value.astype(np.float32) for name, value in made.items()}


def caches(theta: float = 10000.0) -> tuple[np.ndarray, np.ndarray]:
    angles = np.arange(ROWS)[:, None] * theta ** (-np.arange(0, H, 2) / H)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def spec(theta: float = 10000.0) -> dict[str, object]:
    config = {
        "head_dim": H,
        "max_position_embeddings": ROWS,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
    }
    return specs_from_config(config)[""].to_dict()


class Twin:
    """The same decoder in numpy float64, behind the Runtime interface. Layers in `still` are not rotated."""

    name, taps, exact = "twin", True, None

    def __init__(self, theta: float = 10000.0, still: tuple[int, ...] = ()):
        self.still = still
        self.w = {name: value.astype(np.float64) for name, value in weights().items()}
        self.cos, self.sin = (table.astype(np.float64) for table in caches(theta))

    def rotate(self, x, positions):
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def untouched(self, result):
        return self

    def run(self, feeds, taps=False):
        ids, mask, positions = (feeds[n] for n in ("input_ids", "attention_mask", "position_ids"))
        batch, tokens = ids.shape
        total = mask.shape[1]
        x, out, seen = self.w["embed"][ids], {}, {}
        causal = np.arange(total) <= np.arange(total - tokens, total)[:, None]
        allowed = causal[None, None] & (mask[:, None, None, :] == 1)
        for layer in range(LAYERS):
            heads = {}
            for name, count in (("q", N), ("k", KV), ("v", KV)):
                heads[name] = (x @ self.w[f"w{name}.{layer}"]).reshape(batch, tokens, count, H).transpose(0, 2, 1, 3)
            q, k = (heads[r] if layer in self.still else self.rotate(heads[r], positions) for r in "qk")
            seen |= {f"unrotated.{layer}.{role}": heads[role] for role in "qk"}
            seen |= {f"rotated.{layer}.q": q, f"rotated.{layer}.k": k}
            past = [feeds.get(f"past_key_values.{layer}.{part}") for part in ("key", "value")]
            keys, values = (
                new if old is None else np.concatenate([old, new], axis=2) for old, new in zip(past, (k, heads["v"]))
            )
            out |= {f"present.{layer}.key": keys, f"present.{layer}.value": values}
            keys, values = (np.repeat(cache, N // KV, axis=1) for cache in (keys, values))
            scores = np.where(allowed, q @ keys.swapaxes(2, 3) / H**0.5, -1e30)
            soft = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (soft / soft.sum(-1, keepdims=True)) @ values
            x = x + mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, HIDDEN) @ self.w[f"wo.{layer}"]
        out = {"logits": x @ self.w["unembed"], **out}
        out = out | seen if taps else out
        return {name: value.astype(np.float32) for name, value in out.items()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def write_toy(folder: Path, style: str = "onnx", faults: Faults | None = None, **changes) -> Manifest:
    """Write an artifact of the toy; `changes` replace manifest fields."""
    faults = faults or Faults()
    folder.mkdir(parents=True, exist_ok=True)
    graph = _graph(style, faults)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=11)
    onnx.checker.check_model(model) if style != "contrib" else None
    onnx.save(model, folder / MODEL_NAME, save_as_external_data=True, location=DATA_NAME, size_threshold=256)
    manifest = replace(
        _manifest(style, graph), files={name: hash_file(folder / name) for name in (MODEL_NAME, DATA_NAME)}
    )
    manifest = replace(manifest, **changes)
    (folder / MANIFEST_NAME).write_text(manifest.to_json())
    (folder / "config.json").write_text(json.dumps({"vocab_size": VOCAB}))
    return manifest


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    dtype = {TensorProto.INT64: "int64", TensorProto.FLOAT: "float32"}[value.type.tensor_type.elem_type]
    shape = tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
    return TensorInfo(value.name, dtype, shape)


def _manifest(style: str, graph: onnx.GraphProto) -> Manifest:
    fused, layout = style == "contrib", {"onnx": "BS(NH)", "contrib": "BS(NH)", "tables": "BSNH"}[style]
    prefix = "heads" if style == "tables" else "flat"
    sites = tuple(
        Site(
            layer=layer,
            role=role,
            rotation="main",
            num_heads=count,
            head_dim=H,
            layout=layout,
            input=f"{prefix}.{role}.{layer}",
            output=None if fused else f"rotated.{role}.{layer}",
            present=f"present.{layer}.key" if fused and role == "k" else None,
        )
        for layer in range(LAYERS)
        for role, count in (("q", N), ("k", KV))
    )
    return Manifest(
        source="toy",
        model_type="toy",
        task="decoder",
        cache=True,
        layers=LAYERS,
        style=style,
        opset=23,
        dtype="float32",
        angles="float64",
        max_position=ROWS,
        fused_attention=fused,
        inputs=tuple(map(_info, graph.input)),
        outputs=tuple(map(_info, graph.output)),
        rotations=(Rotation("main", spec(), "cos.0", "sin.0", ROWS, "table"),),
        sites=sites,
        tolerances=TOLERANCES["float32"],
        vocab_size=VOCAB,
        limits=FUSED_LIMITS if fused else Limits(),
    )


def _graph(style: str, faults: Faults) -> onnx.GraphProto:
    f, i = TensorProto.FLOAT, TensorProto.INT64
    tensor = helper.make_tensor_value_info
    inputs = [
        tensor("input_ids", i, ["batch", "sequence"]),
        tensor("attention_mask", i, ["batch", "total"]),
        tensor("position_ids", i, ["batch", "sequence"]),
    ]
    outputs = [tensor("logits", f, ["batch", "sequence", VOCAB])]
    for layer in range(LAYERS):
        for part in ("key", "value"):
            inputs.append(tensor(f"past_key_values.{layer}.{part}", f, ["batch", KV, "past", H]))
            outputs.append(tensor(f"present.{layer}.{part}", f, ["batch", KV, "total", H]))
    constants = weights()
    for layer in range(LAYERS):
        cos, sin = caches(faults.theta.get(layer, 10000.0))
        constants |= {f"cos.{layer}": cos, f"sin.{layer}": sin}
    constants |= {
        "shift": np.array(faults.shift),
        "zero": np.array(0),
        "outside": np.array(ROWS),
        "one": np.array(1),
        "one_": np.array([1]),
        "two_": np.array([2]),
        "last_": np.array([-1]),
        "unhead": np.array([0, 0, -1]),
        "low": np.float32(-1e30),
        "none": np.float32(0),
        "nan": np.float32(np.nan),
        "nan_from": np.array(ROWS if faults.nan_from_position is None else faults.nan_from_position),
    }
    nodes: list[onnx.NodeProto] = []

    def add(op: str, ins: list[str], out: str | list[str], domain: str = "", **attributes) -> None:
        outs = [out] if isinstance(out, str) else out
        nodes.append(helper.make_node(op, ins, outs, name=outs[0], domain=domain, **attributes))

    add("Less", ["position_ids", "zero"], "below")  # what lies outside is an error, and no row counted from the end
    add("Add", ["position_ids", "shift"], "shifted")
    add("Where", ["below", "outside", "shifted"], "positions")
    add("Gather", ["embed", "input_ids"], "x.0")
    if style == "contrib":
        add("ReduceSum", ["attention_mask", "one_"], "counts64", keepdims=0)
        add("Sub", ["counts64", "one"], "lengths64")
        add("Cast", ["lengths64"], "lengths", to=TensorProto.INT32)
        add("Shape", ["attention_mask"], "total64", start=1, end=2)
        add("Cast", ["total64"], "total_", to=TensorProto.INT32)
    else:
        _mask(add)
    for layer in range(LAYERS):
        for role, count in (("q", N), ("k", KV), ("v", KV)):
            constants[f"split.{role}"] = np.array([0, 0, count, H])
            add("MatMul", [f"x.{layer}", f"w{role}.{layer}"], f"flat.{role}.{layer}")
        {"onnx": _rotated_flat, "tables": _rotated_heads, "contrib": _fused}[style](add, layer, faults)
        add("MatMul", [f"mixed.{layer}", f"wo.{layer}"], f"out.{layer}")
        add("Add", [f"x.{layer}", f"out.{layer}"], f"x.{layer + 1}")
    add("GreaterOrEqual", ["position_ids", "nan_from"], "spoil_")
    add("Unsqueeze", ["spoil_", "last_"], "spoil")
    add("Where", ["spoil", "nan", f"x.{LAYERS}"], "last")
    add("MatMul", ["last", "unembed"], "logits")
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_graph(nodes, "toy", inputs, outputs, initializers)


def _mask(add) -> None:
    add("Shape", ["attention_mask"], "total_", start=1, end=2)
    add("Shape", ["input_ids"], "tokens_", start=1, end=2)
    add("Squeeze", ["total_"], "total")
    add("Squeeze", ["tokens_"], "tokens")
    add("Sub", ["total", "tokens"], "past")
    add("Range", ["past", "total", "one"], "rows_")
    add("Unsqueeze", ["rows_", "last_"], "rows")
    add("Range", ["zero", "total", "one"], "columns")
    add("LessOrEqual", ["columns", "rows"], "causal")
    add("Cast", ["attention_mask"], "real_", to=TensorProto.BOOL)
    add("Unsqueeze", ["real_", "one_"], "real__")
    add("Unsqueeze", ["real__", "one_"], "real")
    add("And", ["causal", "real"], "allowed")
    add("Where", ["allowed", "none", "low"], "bias")


def _rotated_flat(add, layer: int, faults: Faults) -> None:
    for role, count in (("q", N), ("k", KV)):
        ins = [f"flat.{role}.{layer}", f"cos.{layer}", f"sin.{layer}", "positions"]
        interleaved = int(faults.interleaved)
        add("RotaryEmbedding", ins, f"rotated.{role}.{layer}", num_heads=count, interleaved=interleaved)
        add("Reshape", [f"rotated.{role}.{layer}", f"split.{role}"], f"heads.{role}.{layer}")
        add("Transpose", [f"heads.{role}.{layer}"], f"bnsh.{role}.{layer}", perm=[0, 2, 1, 3])
    _attention(add, layer)


def _rotated_heads(add, layer: int, faults: Faults) -> None:
    for table in ("cos", "sin"):
        add("Gather", [f"{table}.{layer}", "positions"], f"{table}.rows_.{layer}")
        add("Unsqueeze", [f"{table}.rows_.{layer}", "two_"], f"{table}.rows.{layer}")
    for role in ("q", "k"):
        key = f"{role}.{layer}"
        add("Reshape", [f"flat.{key}", f"split.{role}"], f"heads.{key}")
        add("Split", [f"heads.{key}"], [f"a.{key}", f"b.{key}"], axis=-1, num_outputs=2)
        for x, table in (("a", "cos"), ("b", "sin"), ("b", "cos"), ("a", "sin")):
            add("Mul", [f"{x}.{key}", f"{table}.rows.{layer}"], f"{x}{table}.{key}")
        add("Sub", [f"acos.{key}", f"bsin.{key}"], f"first.{key}")
        add("Add", [f"bcos.{key}", f"asin.{key}"], f"second.{key}")
        halves = [f"first.{key}", f"second.{key}"]
        add("Concat", halves[::-1] if faults.swap_heads else halves, f"rotated.{key}", axis=-1)
        add("Transpose", [f"rotated.{key}"], f"bnsh.{key}", perm=[0, 2, 1, 3])
    _attention(add, layer)


def _attention(add, layer: int) -> None:
    add("Reshape", [f"flat.v.{layer}", "split.v"], f"heads.v.{layer}")
    add("Transpose", [f"heads.v.{layer}"], f"bnsh.v.{layer}", perm=[0, 2, 1, 3])
    for role, part in (("k", "key"), ("v", "value")):
        past, present = f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"
        add("Concat", [past, f"bnsh.{role}.{layer}"], present, axis=2)
    ins = [f"bnsh.q.{layer}", f"present.{layer}.key", f"present.{layer}.value", "bias"]
    add("Attention", ins, f"bnsh.o.{layer}", scale=H**-0.5)
    add("Transpose", [f"bnsh.o.{layer}"], f"bsnh.o.{layer}", perm=[0, 2, 1, 3])
    add("Reshape", [f"bsnh.o.{layer}", "unhead"], f"mixed.{layer}")


def _fused(add, layer: int, faults: Faults) -> None:
    ins = [f"flat.{role}.{layer}" for role in "qkv"]
    ins += [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
    ins += ["lengths", "total_", f"cos.{layer}", f"sin.{layer}", "positions"]
    outs = [f"mixed.{layer}", f"present.{layer}.key", f"present.{layer}.value"]
    add("GroupQueryAttention", ins, outs, "com.microsoft", num_heads=N, kv_num_heads=KV, do_rotary=1)
