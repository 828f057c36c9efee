"""The same families through other exporters, judged by ONNX Runtime against PyTorch at the shapes and positions we are
judged at. Without a cache: that is where all of them are at their best."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conformance.families.census import Family
from conformance.families.inputs import text
from conformance.families.judge import first_tensor
from conformance.families.tiny import tiny_model
from conformance.families.verdicts import first_line
from rope_deploy.artifact import TOLERANCES

TRACED, OTHER = (2, 3), (3, 5)


@dataclass
class PeerResult:
    """`verdict`: "right", "wrong" (it ran, and differed or failed at a shape) or "refused" (no graph). `failed` has
    the name of each call that went wrong and what was wrong with it; `worst` is the largest error of those that ran."""

    peer: str
    verdict: str
    reason: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    worst: float | None = None
    export_s: float | None = None


class Plain(torch.nn.Module):
    """A model with three inputs and one output, as torch.onnx documents it."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids):
        return first_tensor(self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids))


class Unplaced(Plain):
    """The same for models that count positions themselves."""

    def forward(self, input_ids, attention_mask):
        return first_tensor(self.model(input_ids, attention_mask=attention_mask))


def by_torch(model, example: dict[str, torch.Tensor], path: Path, opset: int) -> None:
    """torch.onnx.export, its experts computed for all tokens where the model offers that: nothing else exports."""
    if getattr(model, "_can_set_experts_implementation", lambda: False)():
        model.set_experts_implementation("batched_mm")
    flat = (Plain if "position_ids" in example else Unplaced)(model)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    torch.onnx.export(
        flat,
        kwargs=example,
        f=path,
        dynamo=True,
        opset_version=opset,
        dynamic_shapes={name: dict(axes) for name in example},
        verbose=False,
    )


def by_transformers(model, example: dict[str, torch.Tensor], path: Path) -> None:
    """transformers.exporters as its documentation shows it."""
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    exported = OnnxExporter().export(model, dict(example), config=OnnxConfig(dynamic=True))
    OnnxExporter.save_program(exported.program, path)


PEERS: Mapping[str, Callable[[Any, dict[str, torch.Tensor], Path], None]] = {
    "torch.onnx 18": lambda model, example, path: by_torch(model, example, path, 18),
    "torch.onnx 23": lambda model, example, path: by_torch(model, example, path, 23),
    "transformers.exporters": by_transformers,
}


def judge_peer(family: Family, peer: str, work: Path) -> None:
    """Export with `peer`, judge the graph, and leave the result in `work`/peer.json."""
    model = tiny_model(family)
    model.config.use_cache = False
    began, path = time.perf_counter(), work / "peer.onnx"
    result = PeerResult(peer, "refused")
    try:
        PEERS[peer](model, calls(model)["traced"], path)
        result.export_s = round(time.perf_counter() - began, 2)
    except Exception as error:  # whatever it raises, there is no graph
        while error.__cause__ is not None:
            error = error.__cause__
        result.reason = first_line(error)
    else:
        result.failed, result.worst = compare(path, calls(model), tiny_model(family))
        result.verdict = "wrong" if result.failed else "right"
        result.reason = "; ".join(f"{name}: {message}" for name, message in result.failed.items())[:300]
    (work / "peer.json").write_text(json.dumps(asdict(result)))


def calls(model) -> dict[str, dict[str, torch.Tensor]]:
    """What the graph is asked, as tensors by name; no position_ids for a model that takes none."""
    import inspect

    takes = "position_ids" in inspect.signature(model.forward).parameters
    found = {
        "traced": _call(TRACED),
        "other shape": _call(OTHER),
        "single token": _call((1, 1)),
        "left padding": _padded(OTHER),
    }
    if takes:
        found["from 1000"] = _call(OTHER, start=1000)
        found["strided"] = _call(OTHER, step=3)
    else:
        for feeds in found.values():
            del feeds["position_ids"]
    return found


def _call(shape: tuple[int, int], *, start: int = 0, step: int = 1) -> dict[str, torch.Tensor]:
    inputs = text(*shape, seed=shape[1])
    return {
        "input_ids": inputs["input_ids"],
        "attention_mask": inputs["attention_mask"],
        "position_ids": (start + step * torch.arange(shape[1])).repeat(shape[0], 1),
    }


def _padded(shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Rows that begin with 0, 1, 2, … tokens of padding."""
    feeds = _call(shape)
    for row in range(shape[0]):
        feeds["attention_mask"][row, :row] = 0
    feeds["position_ids"] = (feeds["attention_mask"].cumsum(1) - 1).clamp(min=0)
    return feeds


def compare(path: Path, asked: Mapping[str, dict[str, torch.Tensor]], model) -> tuple[dict[str, str], float | None]:
    """What went wrong at which call, and the largest error among real tokens."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own kinds
        return {"load": first_line(error)}, None
    known = {value.name for value in session.get_inputs()}
    failed, worst = {}, None
    for name, feeds in asked.items():
        with torch.no_grad():
            want = first_tensor(model(**feeds)).numpy()
        try:
            got = session.run(None, {key: value.numpy() for key, value in feeds.items() if key in known})[0]
        except Exception as error:  # as above
            failed[name] = first_line(error)
            continue
        if got.shape != want.shape:
            failed[name] = f"The result has shape {got.shape}, not {want.shape}."
            continue
        real = feeds["attention_mask"].numpy().astype(bool)
        error = float(np.abs(got - want)[real].max())
        worst = error if worst is None else max(worst, error)
        if not error <= TOLERANCES["float32"].logits:
            failed[name] = f"off by {error:.2g}"
    return failed, worst
