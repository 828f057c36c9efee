"""The rotation alone, spelled in every way ONNX offers, timed in ONNX Runtime on the CPU.

    python -m benchmarks.rotation

One graph a spelling: q and k are rotated again and again (DEPTH times, as by the layers of a model) with table rows
gathered once. It shows what the styles are built on: of the spellings in standard operators alone, the one that
style `tables` uses should be the fastest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import common
from benchmarks.shape import Shape
from rope_deploy.rope import Default, RopeSpec, rotate, tables

DEPTH = 8
LARGEST_ERROR = 1e-5
HF, SPLIT, SWAPPED = "HF chain", "split halves", "swapped pairs (style tables)"
CONTRIB, STANDARD, FLAT = "com.microsoft.RotaryEmbedding", "RotaryEmbedding-23, 4-D", "RotaryEmbedding-23, 3-D"


SHAPES = (Shape(1, 128, 9, 3, 64), Shape(1, 2048, 32, 8, 128), Shape(8, 1, 32, 8, 128))


class Writer:
    """Collects nodes and constants of one graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], domain=domain, **attributes))
        return name

    def constant(self, array: np.ndarray, name: str = "") -> str:
        name = name or "ints_" + "_".join(map(str, array.tolist()))
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))


# What a spelling does once a graph, giving what it needs at each rotation, and what it does there.
Once = Callable[[Writer, Shape], tuple[str, ...]]
Each = Callable[..., str]


def rows(w: Writer, shape: Shape) -> tuple[str, str]:
    """cos and sin of each token, [B, 1, S, H/2]."""
    axis = w.ints(1)
    return tuple(w.op("Unsqueeze", w.op("Gather", name, "position_ids", axis=0), axis) for name in ("cos", "sin"))


def doubled(w: Writer, shape: Shape) -> tuple[str, str]:
    """The same of full width, as models have them."""
    return tuple(w.op("Concat", half, half, axis=-1) for half in rows(w, shape))


def signed(w: Writer, shape: Shape) -> tuple[str, str]:
    """[c, c] and [-s, s]."""
    cos, sin = rows(w, shape)
    return w.op("Concat", cos, cos, axis=-1), w.op("Concat", w.op("Neg", sin), sin, axis=-1)


def caches(w: Writer, shape: Shape) -> tuple[str, str]:
    return "cos", "sin"


def hf_chain(w: Writer, shape: Shape, heads: int, x: str, cos: str, sin: str) -> str:
    zero, half, end, axis = w.ints(0), w.ints(shape.H // 2), w.ints(shape.H), w.ints(3)
    second = w.op("Neg", w.op("Slice", x, half, end, axis))
    turned = w.op("Concat", second, w.op("Slice", x, zero, half, axis), axis=-1)
    return w.op("Add", w.op("Mul", x, cos), w.op("Mul", turned, sin))


def split_halves(w: Writer, shape: Shape, heads: int, x: str, cos: str, sin: str) -> str:
    zero, half, end, axis = w.ints(0), w.ints(shape.H // 2), w.ints(shape.H), w.ints(3)
    first, second = w.op("Slice", x, zero, half, axis), w.op("Slice", x, half, end, axis)
    left = w.op("Sub", w.op("Mul", first, cos), w.op("Mul", second, sin))
    right = w.op("Add", w.op("Mul", second, cos), w.op("Mul", first, sin))
    return w.op("Concat", left, right, axis=-1)


def swapped_pairs(w: Writer, shape: Shape, heads: int, x: str, cos: str, sin: str) -> str:
    pairs = w.op("Reshape", x, w.ints(0, 0, 0, 2, shape.H // 2))
    swapped = w.op("Reshape", w.op("Gather", pairs, w.ints(1, 0), axis=3), w.ints(0, 0, 0, shape.H))
    return w.op("Add", w.op("Mul", x, cos), w.op("Mul", swapped, sin))


def contrib(w: Writer, shape: Shape, heads: int, x: str, cos: str, sin: str) -> str:
    return w.op("RotaryEmbedding", x, "position_ids", cos, sin, domain="com.microsoft")


def standard(w: Writer, shape: Shape, heads: int, x: str, cos: str, sin: str) -> str:
    return w.op("RotaryEmbedding", x, cos, sin, "position_ids")


def flat(w: Writer, shape: Shape, heads: int, x: str, cos: str, sin: str) -> str:
    return w.op("RotaryEmbedding", x, cos, sin, "position_ids", num_heads=heads)


SPELLINGS: dict[str, tuple[Once, Each]] = {
    HF: (doubled, hf_chain),
    SPLIT: (rows, split_halves),
    SWAPPED: (signed, swapped_pairs),
    CONTRIB: (caches, contrib),
    STANDARD: (caches, standard),
    FLAT: (caches, flat),
}


def graph(spelling: str, shape: Shape, tables_: tuple[np.ndarray, np.ndarray], depth: int) -> bytes:
    """A model that rotates q and k `depth` times; [B, N, S, H], or [B, S, N·H] for the 3-D form."""
    once, each = SPELLINGS[spelling]
    w = Writer()
    for name, table in zip(("cos", "sin"), tables_):
        w.constant(table, name)
    shared = once(w, shape)
    inputs = [helper.make_tensor_value_info("position_ids", TensorProto.INT64, [shape.B, shape.S])]
    outputs = []
    for name, heads in (("q", shape.N), ("k", shape.K)):
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, _dims(spelling, shape, heads)))
        value = name
        for _ in range(depth):
            value = each(w, shape, heads, value, *shared)
        outputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, _dims(spelling, shape, heads)))
    made = helper.make_graph(w.nodes, "rotation", inputs, outputs, list(w.constants.values()))
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()


def _dims(spelling: str, shape: Shape, heads: int) -> list[int]:
    return [shape.B, shape.S, heads * shape.H] if spelling == FLAT else [shape.B, heads, shape.S, shape.H]


def measure(shape: Shape, rounds: int, threads: int) -> dict[str, dict]:
    """Time of one rotation of q and k in each spelling, and its distance from fp64 after one rotation."""
    spec = RopeSpec(shape.H, shape.H, False, 1e4, Default(), 4096)
    made = tables(spec, 4096)
    rng = np.random.default_rng(0)
    positions = (np.arange(shape.S) + 4096 - shape.S - np.arange(shape.B)[:, None]).astype(np.int64)
    plain = {
        "q": rng.standard_normal((shape.B, shape.N, shape.S, shape.H), np.float32),
        "k": rng.standard_normal((shape.B, shape.K, shape.S, shape.H), np.float32),
    }
    exact = [table[positions][:, None].astype(np.float64) for table in made]
    wanted = [rotate(x.astype(np.float64), *exact, interleaved=False) for x in plain.values()]
    calls, errors = {}, {}
    for spelling in SPELLINGS:
        feeds = {"position_ids": positions} | {n: _arranged(spelling, x) for n, x in plain.items()}
        ours = common.session(graph(spelling, shape, made, 1), threads).run(None, feeds)
        errors[spelling] = max(float(np.abs(a - _arranged(spelling, b)).max()) for a, b in zip(ours, wanted))
        if not errors[spelling] <= LARGEST_ERROR:
            raise click.ClickException(f"{spelling} at {shape}: wrong by {errors[spelling]:.2g}.")
        calls[spelling] = partial(common.session(graph(spelling, shape, made, DEPTH), threads).run, None, feeds)
    repeats = 1 if shape.S > 1000 else 20
    spent = {n: np.array(t) / DEPTH for n, t in common.interleaved(calls, rounds, repeats=repeats).items()}
    return {n: row | {"max_error": errors[n]} for n, row in common.summary(spent, (HF,)).items()}


def _arranged(spelling: str, x: np.ndarray) -> np.ndarray:
    """[B, N, S, H] as the spelling takes it."""
    if spelling != FLAT:
        return x
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(x.shape[0], x.shape[2], -1)


@click.command(help=__doc__.split("\n")[0])
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
@click.option("--rounds", default=41)
@click.option("--threads", default=1)
def main(results: Path, rounds: int, threads: int) -> None:
    with common.recording("rotation", results) as result:
        result |= {"threads": threads, "rounds": rounds, "depth": DEPTH, "shapes": {}}
        for shape in SHAPES:
            result["shapes"][str(shape)] = measured = measure(shape, rounds, threads)
            for name, row in measured.items():
                click.echo(f"{shape!s:22} {name:32} {row['median_ms'] * 1e3:10.2f} µs  {row['ratio_to']}")


if __name__ == "__main__":
    main()
