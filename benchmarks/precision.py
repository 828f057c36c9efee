"""How far rotated q and k are from the truth in half precision: PyTorch's own, and every style's.

    python -m benchmarks.precision

One layer with SmolLM2's rotation is exported in each dtype, style and kind of table; the rotation is cut out of the
file that was written and run at every position the model knows. float16 runs in ONNX Runtime on the CPU. ONNX
Runtime has no bfloat16 there, so that is run by the ONNX reference evaluator. The truth is float64 throughout.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import ml_dtypes
import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.utils import Extractor

from benchmarks import common

DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
ANGLES = ("model", "float64")
BLOCK = 1024  # positions in one run
PYTORCH, FUSED = "PyTorch", "contrib, fused (k only)"


@dataclass(frozen=True)
class Problem:
    """q [1, N, P, H] and k in one dtype, for positions 0 … P-1, and their true rotation in float64."""

    config: Any
    dtype: str
    q: np.ndarray
    k: np.ndarray
    truth: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, config: Any, dtype: str) -> Problem:
        rng, count, dim = np.random.default_rng(0), config.max_position_embeddings, config.head_dim
        heads = (config.num_attention_heads, config.num_key_value_heads)
        q, k = (rng.standard_normal((1, n, count, dim)).astype(DTYPES[dtype]) for n in heads)
        inv_freq = float(config.rope_parameters["rope_theta"]) ** (-np.arange(0, dim, 2) / dim)
        return cls(config, dtype, q, k, tuple(_turned(x.astype(np.float64), inv_freq) for x in (q, k)))


def _turned(x: np.ndarray, inv_freq: np.ndarray) -> np.ndarray:
    """x [.., P, H] turned by position times inv_freq, the halves of a head paired (Llama's layout)."""
    angle = np.arange(x.shape[-2])[:, None] * inv_freq
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def by_pytorch(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """What transformers computes in this dtype."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    # PyTorch takes no numpy bfloat16; every value of either type is one of float32.
    q, k = (torch.from_numpy(x.astype(np.float32)).to(getattr(torch, problem.dtype)) for x in (problem.q, problem.k))
    cos, sin = LlamaRotaryEmbedding(problem.config)(q, torch.arange(q.shape[2])[None])
    return tuple(x.float().numpy().astype(DTYPES[problem.dtype]) for x in apply_rotary_pos_emb(q, k, cos, sin))


def export_layer(layer: Path, dtype: str, angles: str, folder: Path) -> dict[str, Path]:
    """The model of one layer in all four styles, and contrib without fused attention."""
    from rope_deploy import api

    loaded = api.load(str(layer), dtype=dtype)
    api.export(loaded, folder, styles=common.STYLES, angles=angles)
    api.export(loaded, folder / "unfused", styles=("contrib",), angles=angles, fused_attention=False)
    paths = {style: folder / style for style in common.STYLES}
    return paths | {"contrib": folder / "unfused", FUSED: folder / "contrib"}


def by_style(problem: Problem, folder: Path) -> tuple[np.ndarray, ...]:
    """Rotated q and k, or k alone where the attention is fused and only its cache can be seen."""
    from rope_deploy.artifact import load_manifest

    manifest = load_manifest(folder)
    sites = sorted(manifest.sites, key=lambda site: site.role, reverse=True)
    fused = sites[0].output is None
    model = onnx.load(folder / "model.onnx")
    inputs = ["position_ids", *(site.input for site in sites)]
    if fused:
        inputs += [_fused_node(model).input[2], "attention_mask", *manifest.past_names]
    outputs = [sites[1].present] if fused else [site.output for site in sites]
    run = _runner(Extractor(model).extract_model(inputs, outputs), problem.dtype)
    empty = np.zeros((1, problem.k.shape[1], 0, problem.k.shape[3]), problem.k.dtype)
    blocks = []
    for start in range(0, problem.q.shape[2], BLOCK):
        parts = [x[:, :, start : start + BLOCK] for x in (problem.q, problem.k)]
        arranged = [_arranged(part, site.layout) for part, site in zip(parts, sites)]
        feeds = [np.arange(start, start + BLOCK)[None], *arranged]
        if fused:
            feeds += [arranged[1], np.ones((1, BLOCK), np.int64), empty, empty]
        results = run(dict(zip(inputs, feeds)))
        layouts = ["BNSH"] if fused else [site.layout for site in sites]
        blocks.append([_plain(y, layout, problem.q.shape[3]) for y, layout in zip(results, layouts)])
    return tuple(np.concatenate(column, axis=2) for column in zip(*blocks))


def _fused_node(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")


def _runner(model: onnx.ModelProto, dtype: str):
    if dtype == "float16":
        session = common.session(model.SerializeToString(), 2)
        return lambda feeds: session.run(None, feeds)
    _as_standard(model)
    evaluator = ReferenceEvaluator(model)
    return lambda feeds: evaluator.run(None, feeds)


def _as_standard(model: onnx.ModelProto) -> None:
    """ONNX Runtime's rotary operator has no reference; it is the standard one with its inputs in another order."""
    for node in model.graph.node:
        if node.op_type == "RotaryEmbedding" and node.domain == "com.microsoft":
            x, rows, cos, sin = node.input
            del node.input[:]
            node.input.extend([x, cos, sin, rows])
            node.domain = ""
            model.opset_import[[o.domain for o in model.opset_import].index("")].version = 23


def _arranged(x: np.ndarray, layout: str) -> np.ndarray:
    """[B, N, S, H] laid out as a site has it."""
    if layout == "BNSH":
        return x
    y = np.ascontiguousarray(x.transpose(0, 2, 1, 3))
    return y.reshape(*y.shape[:2], -1) if layout == "BS(NH)" else y


def _plain(y: np.ndarray, layout: str, head_dim: int) -> np.ndarray:
    return y if layout == "BNSH" else y.reshape(*y.shape[:2], -1, head_dim).transpose(0, 2, 1, 3)


def distance(got: tuple[np.ndarray, ...], problem: Problem) -> dict[str, float]:
    """Largest and mean absolute error, and the share of results that are not the nearest number of the dtype."""
    truth = problem.truth[-len(got) :]
    errors = np.concatenate([np.abs(a.astype(np.float64) - b).ravel() for a, b in zip(got, truth)])
    missed = np.concatenate([(a != b.astype(a.dtype)).ravel() for a, b in zip(got, truth)])
    return {"max": float(errors.max()), "mean": float(errors.mean()), "not_nearest": float(missed.mean())}


@click.command(help=__doc__.split("\n")[0])
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK, help="Where models and graphs are kept.")
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
def main(work: Path, results: Path) -> None:
    common.offline()
    from transformers import AutoConfig, LlamaForCausalLM

    config = AutoConfig.from_pretrained(common.model_folder(work))
    config.num_hidden_layers, config.vocab_size, config.intermediate_size = 1, 128, 64
    with common.recording("precision", results) as result, tempfile.TemporaryDirectory() as temporary:
        result |= {"rotation": config.rope_parameters, "head_dim": config.head_dim, "dtypes": {}}
        result["positions"] = config.max_position_embeddings
        layer = Path(temporary) / "layer"
        LlamaForCausalLM(config).save_pretrained(layer)
        for dtype in DTYPES:
            problem = Problem.of(config, dtype)
            rotated = by_pytorch(problem)
            rows = {PYTORCH: distance(rotated, problem)}
            keys = {f"{PYTORCH}, k only": distance(rotated[1:], problem)}
            for angles in ANGLES:
                for name, folder in export_layer(layer, dtype, angles, Path(temporary) / dtype / angles).items():
                    if name == FUSED and dtype == "bfloat16":
                        continue  # the operator has no reference, and none that is only an order of inputs
                    kind = keys if name == FUSED else rows
                    kind[f"{name}, --angles {angles}"] = distance(by_style(problem, folder), problem)
            result["dtypes"][dtype] = {"q and k": rows} | ({"k": keys} if len(keys) > 1 else {})
            for name, row in (rows | keys).items():
                click.echo(f"{dtype:9} {name:40} max {row['max']:.3g} mean {row['mean']:.3g} {row['not_nearest']:.2%}")


if __name__ == "__main__":
    main()
