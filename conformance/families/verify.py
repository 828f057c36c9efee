"""The sweep's verdicts once more, by a script that shares no code with what it verifies.

    python -m conformance.families --keep out/families-kept llama gptj      # leaves each family's model and artifacts
    python -m conformance.families.verify out/families-kept           # PyTorch against ONNX Runtime, nothing else

For every family in the folder the model is loaded by transformers, and every model.onnx beside it by ONNX Runtime.
Both get the same tokens at the same positions: a prompt, one from position 1000, one by strides of three, one padded
on the left; the graph all at once, then token by token after a prompt, with the cache that it gave back. PyTorch
answers each of them at once, without a cache; a family whose own cache makes a difference to it (Zamba2 bounds its
time steps in prompts alone) is held against its own steps, and `itself` says by how much. Then a fault is planted: the
graph alone is told that half of the tokens stand one position further on. A comparison that does not notice proves
nothing, and is called blind.
"""

from __future__ import annotations

import argparse
import datetime
import inspect
import json
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

BATCH, LENGTH, STEPS, SEED = 2, 8, 4, 7
FIRST, LAST = 5, 76  # tokens without a meaning of their own
TOLERANCE = 1e-3  # of any logit, whose spread is about one
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "families_verified.json"
PACKAGES = ("torch", "transformers", "onnxruntime", "numpy")
TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(bool)": np.bool_}

Arrays = dict[str, np.ndarray]


class Reference:
    """A model as transformers loads it."""

    def __init__(self, folder: Path):
        name = json.loads((folder / "config.json").read_text())["architectures"][0]
        self.model = getattr(transformers, name).from_pretrained(folder, attn_implementation="eager").eval()
        self.takes = inspect.signature(self.model.forward).parameters

    def __call__(self, feeds: Arrays) -> np.ndarray:
        """Logits, or what a bare model gives, for a whole text at once, without a cache."""
        return self._answer(feeds, **({"use_cache": False} if "use_cache" in self.takes else {}))[0]

    def by_steps(self, feeds: Arrays) -> np.ndarray:
        """The same token by token after a prompt, with the cache that the model makes for itself."""
        past, found = None, []
        for piece in pieces(feeds):
            result, past = self._answer(piece, past_key_values=past, use_cache=True)
            found.append(result)
        return np.concatenate(found, axis=1)

    def _answer(self, feeds: Arrays, **options: Any) -> tuple[np.ndarray, Any]:
        given = {name: torch.from_numpy(value) for name, value in feeds.items() if name in self.takes}
        with torch.no_grad():
            output = self.model(**given, **options)
        result = output.logits if getattr(output, "logits", None) is not None else output[0]
        return result.float().numpy(), getattr(output, "past_key_values", None)


class Graph:
    """An exported file as ONNX Runtime runs it."""

    def __init__(self, folder: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.limits = json.loads((folder / "rope_deploy.json").read_text())["limits"]

    @property
    def axes(self) -> int:
        """How many axes a position has: [axes, batch, sequence] if more than one; 0: the graph counts by itself."""
        if "position_ids" not in self.inputs:
            return 0
        shape = self.inputs["position_ids"].shape
        return shape[0] if len(shape) == 3 else 1

    @property
    def past(self) -> list[str]:
        return [name for name in self.inputs if name.startswith("past")]

    def empty(self) -> Arrays:
        """The cache before the first token: no rows, and states of zeros."""
        found = {}
        for name in self.past:
            value = self.inputs[name]
            shape = [size if isinstance(size, int) else BATCH if size == "batch" else 0 for size in value.shape]
            found[name] = np.zeros(shape, TYPES[value.type])
        return found

    def __call__(self, feeds: Arrays, past: Arrays) -> tuple[np.ndarray, Arrays]:
        """The first output, and the cache as the next call takes it."""
        given = {name: value for name, value in {**feeds, **past}.items() if name in self.inputs}
        found = dict(zip(self.outputs, self.session.run(None, given), strict=True))
        return found[self.outputs[0]], {name: found[name.replace("past_key_values", "present")] for name in past}


def calls(axes: int) -> Iterator[tuple[str, Arrays]]:
    """What both are asked; no positions where the graph has none."""
    steps = np.arange(LENGTH)
    for seed, (name, positions) in enumerate(
        {"prefill": steps, "from 1000": 1000 + steps, "strided": 3 * steps}.items(), SEED
    ):
        if axes or name == "prefill":
            yield name, feeds(seed, np.ones((BATCH, LENGTH), np.int64), np.tile(positions, (BATCH, 1)), axes)
    mask = np.ones((BATCH, LENGTH), np.int64)
    mask[1, :3] = 0
    yield "left padding", feeds(SEED + 3, mask, np.maximum(mask.cumsum(1) - 1, 0), axes)


def feeds(seed: int, mask: np.ndarray, positions: np.ndarray, axes: int) -> Arrays:
    tokens = np.random.default_rng(seed).integers(FIRST, LAST, mask.shape)
    if axes > 1:  # each axis moves at a pace of its own
        positions = np.stack([positions // (axis + 1) for axis in range(axes)])
    found = {"input_ids": tokens, "attention_mask": mask}
    return found | ({"position_ids": positions} if axes else {})


def compare(
    reference: Callable[[Arrays], np.ndarray], graph: Graph, answer: Callable[[Graph, Arrays], np.ndarray]
) -> dict[str, float]:
    """The largest difference among real tokens, for each call that the graph does not say it cannot take."""
    found = {}
    for name, given in calls(graph.axes):
        if (name == "left padding" and not graph.limits["left_padding"]) or (
            name == "strided" and not graph.limits["prompt_positions"]
        ):
            continue
        real = given["attention_mask"].astype(bool)
        found[name] = float(np.abs(answer(graph, given) - reference(given))[real].max())
    return found


def whole(graph: Graph, given: Arrays) -> np.ndarray:
    return graph(given, graph.empty())[0]


def by_steps(graph: Graph, given: Arrays) -> np.ndarray:
    """A prompt, then token by token with the cache as it comes back."""
    past, found = graph.empty(), []
    for piece in pieces(given):
        result, past = graph(piece, past)
        found.append(result)
    return np.concatenate(found, axis=1)


def pieces(given: Arrays) -> Iterator[Arrays]:
    """A prompt and the tokens after it one by one, each with the mask of all so far."""
    for begin, end in pairwise([0, *range(LENGTH - STEPS, LENGTH + 1)]):
        piece = {name: value[..., begin:end] for name, value in given.items()}
        yield {**piece, "attention_mask": given["attention_mask"][:, :end]}


def misplaced(graph: Graph, given: Arrays) -> np.ndarray:
    """The graph's answer with a planted fault: half of the tokens one position off (those that follow the prompt,
    where there is a cache), or, where the graph counts by itself, the tokens given from last to first and the answer
    turned round again."""
    if "position_ids" in given:
        moved = given["position_ids"].copy()
        moved[..., LENGTH - STEPS :] += 1
        return (by_steps if graph.past else whole)(graph, given | {"position_ids": moved})
    reversed_inputs = {name: np.ascontiguousarray(value[:, ::-1]) for name, value in given.items()}
    return whole(graph, reversed_inputs)[:, ::-1]


def verify(folder: Path) -> dict[str, Any]:
    """The verdict of one family: right, wrong, blind, or why it was not verified."""
    try:
        reference = Reference(folder / "model")
        graphs = {artifact.relative_to(folder).as_posix(): Graph(artifact) for artifact in artifacts(folder)}
    except Exception as error:  # whatever a library raises
        return {"verdict": "not verified", "reason": f"{type(error).__name__}: {str(error)[:200]}"}
    strange = {name for graph in graphs.values() for name in graph.inputs if not name.startswith("past")}
    if strange := sorted(strange - {"input_ids", "attention_mask", "position_ids"}):
        return {"verdict": "not verified", "reason": f"It is fed {', '.join(strange)}."}
    found: dict[str, Any] = {"verdict": "right", "worst": 0.0, "fault": None, "graphs": {}}
    for name, graph in graphs.items():
        errors = compare(reference, graph, whole)
        if graph.past:
            steps = compare(reference, graph, by_steps)
            if max(steps.values()) > TOLERANCE:  # PyTorch may disagree with itself; then its own steps are the measure
                found["itself"] = compare(reference, graph, lambda _, given: reference.by_steps(given))
                steps = compare(reference.by_steps, graph, by_steps)
            errors |= {f"{call}, by steps": error for call, error in steps.items()}
        fault = max(compare(reference, graph, misplaced).values())
        found["graphs"][name] = {**errors, "planted fault": fault}
        found["worst"] = max(found["worst"], *errors.values())
        found["fault"] = fault if found["fault"] is None else min(found["fault"], fault)
    if not graphs:
        return {"verdict": "not verified", "reason": "It has no artifacts."}
    if not found["worst"] <= TOLERANCE:
        found["verdict"] = "wrong"
    elif not found["fault"] > TOLERANCE:
        found["verdict"] = "blind"
    return found


def artifacts(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (*folder.glob("exported/*/model.onnx"), *folder.glob("unfused/*/model.onnx")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `python -m conformance.families --keep` filled")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    families: dict[str, Any] = {}
    for folder in sorted(path for path in options.folder.iterdir() if (path / "model").is_dir()):
        families[folder.name] = one = verify(folder)
        figures = f"{one['worst']:.1e}, planted fault {one['fault']:.1e}" if "worst" in one else one["reason"]
        if "itself" in one:
            figures += f"; PyTorch's own steps differ from its whole by {max(one['itself'].values()):.1e}"
        print(f"{folder.name:28} {one['verdict']:12} {figures}", flush=True)
    counts = {kind: sum(one["verdict"] == kind for one in families.values()) for kind in ("right", "wrong", "blind")}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()), f"of {len(families)} families")
    machine = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "our_own_modules": sorted(name for name in sys.modules if name.startswith("rope_deploy")),
    }
    record = {"benchmark": "families_verified", "machine": machine, "tolerance": TOLERANCE, **counts}
    options.results.write_text(json.dumps({**record, "families": families}, indent=1) + "\n")
    return 1 if counts["wrong"] or not counts["right"] else 0


if __name__ == "__main__":
    sys.exit(main())
