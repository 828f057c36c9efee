"""An artifact in ONNX Runtime against the model in transformers, with nothing of this package in between.

The model is loaded by transformers and runs its own attention; the graph runs in a bare session. Each keeps its own
cache: what one call returns is what the next call gets. Only real tokens are compared; what a model answers at
padding is nobody's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import transformers as hf

from rope_deploy.artifact import MODEL_NAME, Limits, load_manifest
from tests.tiny import VOCAB


@dataclass(frozen=True)
class Case:
    """Rows of `lengths` real tokens, then `later` tokens a call for every row.

    The n-th real token of a row stands at `start` + n · `stride`.
    """

    name: str
    lengths: tuple[int, ...]
    later: tuple[int, ...] = ()
    left: bool = False
    start: int = 0
    stride: int = 1

    def within(self, limits: Limits, *, cache: bool, positions: bool) -> bool:
        """Whether a graph with these limits and inputs can do it."""
        ragged = len(set(self.lengths)) > 1
        return not (
            (ragged and self.left and not limits.left_padding)
            or (ragged and self.later and not limits.padded_past)
            or (len(self.lengths) > 1 and max(self.later, default=0) > 1 and not limits.chunked_prefill_batch)
            or (self.stride > 1 and not limits.prompt_positions)
            or (self.later and not cache)
            or ((self.start or self.stride > 1) and not positions)
        )


CASES = (
    Case("one token", (1,)),
    Case("prompt and steps", (6,), (1, 1, 1)),
    Case("prompt in chunks", (5,), (4, 3, 1)),
    Case("batch of two", (7, 7), (1, 1)),
    Case("batch in chunks", (4, 4), (3, 1)),
    Case("padded on the left", (9, 4), (1, 1), left=True),
    Case("padded on the right", (9, 4)),
    Case("steps after padding on the right", (9, 4), (1, 1)),
    Case("every third position", (9,), (1, 1), stride=3),
    Case("every third position, batch", (9, 9), (2,), stride=3),
    Case("far out", (6,), (1,), start=100),
    Case("longer than every window", (40,), (1,)),
)


@dataclass(frozen=True)
class Call:
    input_ids: np.ndarray
    attention_mask: np.ndarray
    position_ids: np.ndarray

    @property
    def real(self) -> np.ndarray:
        return self.attention_mask[:, -self.input_ids.shape[1] :] == 1


def calls(case: Case) -> Iterator[Call]:
    rng = np.random.default_rng(len(case.name))
    width = max(case.lengths)
    real = np.zeros((len(case.lengths), width), np.int64)
    for row, length in enumerate(case.lengths):
        real[row, width - length if case.left else 0 : width if case.left else length] = 1
    mask = np.concatenate([real, np.ones((len(real), sum(case.later)), np.int64)], axis=1)
    ids = rng.integers(3, VOCAB, mask.shape)
    positions = case.start + case.stride * np.clip(mask.cumsum(axis=1) - 1, 0, None)
    end = 0
    for tokens in (width, *case.later):
        begin, end = end, end + tokens
        yield Call(ids[:, begin:end], mask[:, :end], positions[:, begin:end])


class Stock:
    """The model as transformers runs it, its cache kept between calls."""

    def __init__(self, folder: Path, dtype: str = "float32"):
        config = hf.AutoConfig.from_pretrained(folder)
        model_class = getattr(hf, config.architectures[0])
        self.model = model_class.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self.decodes = model_class.__name__.endswith("ForCausalLM")

    def answers(self, case: Case) -> list[np.ndarray]:
        cache = hf.DynamicCache()  # without the configuration: keeps every key, the mask does the windowing
        found = []
        for call in calls(case):
            feeds = {"input_ids": call.input_ids, "attention_mask": call.attention_mask}
            extra = {}
            if self.decodes:
                feeds["position_ids"] = call.position_ids
                extra = {"past_key_values": cache, "use_cache": True}
            with torch.no_grad():
                output = self.model(**{name: torch.from_numpy(value) for name, value in feeds.items()}, **extra)
            found.append(output[0].float().numpy())
        return found


class Session:
    """The graph in a bare ONNX Runtime session, its cache kept between calls."""

    def __init__(self, folder: Path):
        self.manifest = load_manifest(folder)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.session = onnxruntime.InferenceSession(
            str(folder / MODEL_NAME), options, providers=["CPUExecutionProvider"]
        )

    def cases(self) -> list[Case]:
        manifest = self.manifest
        positions = any(info.name == "position_ids" for info in manifest.inputs)
        return [case for case in CASES if case.within(manifest.limits, cache=manifest.cache, positions=positions)]

    def answers(self, case: Case) -> list[np.ndarray]:
        past = self._empty(len(case.lengths))
        names = [output.name for output in self.session.get_outputs()]
        taken = {value.name for value in self.session.get_inputs()}
        found = []
        for call in calls(case):
            feeds = {name: getattr(call, name) for name in ("input_ids", "attention_mask", "position_ids")}
            feeds = {name: value for name, value in feeds.items() if name in taken}
            output = dict(zip(names, self.session.run(None, {**feeds, **past}), strict=True))
            past = {name: output[name.replace("past_key_values", "present")] for name in past}
            found.append(output[self.manifest.result_name].astype(np.float32))
        return found

    def _empty(self, batch: int) -> Mapping[str, np.ndarray]:
        known = {"batch": batch, "past": 0}
        return {
            info.name: np.zeros([known.get(axis, axis) for axis in info.shape], info.dtype)
            for info in self.manifest.inputs
            if info.name in self.manifest.past_names
        }


def difference(case: Case, mine: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Largest absolute difference at real tokens over all calls of `case`; NaN counts as infinite."""
    worst = 0.0
    for call, one, other in zip(calls(case), mine, theirs, strict=True):
        assert one.shape == other.shape, f"{case.name}: {one.shape} and {other.shape}"
        gap = np.abs(one - other)[call.real]
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max()))
    return worst
