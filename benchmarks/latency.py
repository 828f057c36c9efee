"""Prefill and decode of SmolLM2 in ONNX Runtime: our styles beside what other exporters make of the same weights.

    python -m benchmarks.latency

All graphs are open at once, with the same number of threads, and take turns. Every graph's logits are held against
PyTorch's, so that nobody is fast by being wrong.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks import common, peers

GENAI, TRANSFORMERS, PREFILL_GRAPH = (
    "onnxruntime-genai",
    "transformers.exporters",
    "transformers.exporters, prefill graph",
)
LARGEST_ERROR = 1e-3


class Graph:
    """An open decoder graph of any exporter: tokens and a cache in, logits and a cache out."""

    def __init__(self, path: Path, threads: int):
        self.session = common.session(str(path), threads)
        names = [value.name for value in self.session.get_inputs()]
        self._plain = [name for name in names if not _is_cache(name)]
        self._past = sorted(filter(_is_cache, names), key=_place)
        present = [value.name for value in self.session.get_outputs() if _is_cache(value.name)]
        self._outputs = ["logits", *sorted(present, key=_place)]

    @property
    def takes_cache(self) -> bool:
        return bool(self._past)

    def feeds(self, tokens: np.ndarray, past: list[np.ndarray]) -> common.Arrays:
        """`tokens` [1, S] after `past` [1, heads, P, head_dim], key and value of each layer in turn."""
        before, count = past[0].shape[2], tokens.shape[1]
        every = {
            "input_ids": tokens,
            "attention_mask": np.ones((1, before + count), np.int64),
            "position_ids": np.arange(before, before + count)[None],
        }
        return {name: every[name] for name in self._plain} | dict(zip(self._past, past))

    def run(self, feeds: common.Arrays) -> list[np.ndarray]:
        return self.session.run(self._outputs, feeds)


def _is_cache(name: str) -> bool:
    return "past_key_values" in name or name.startswith("present.")


def _place(name: str) -> tuple[int, bool]:
    """Layer, then key before value, whichever way the exporter spells them."""
    return int(re.search(r"\.(\d+)\.", name)[1]), "value" in name.rsplit(".", 1)[1]


class Reference:
    """A real text and what PyTorch says of it: logits of the prompt and of the token that follows."""

    def __init__(self, hf: Path):
        from transformers import AutoTokenizer

        text = (Path(__file__).parent.parent / "LICENSE").read_text()
        self.text = np.array([AutoTokenizer.from_pretrained(hf)(text)["input_ids"]])
        self._model = common.stock_model(hf)

    def logits(self, prompt: int) -> tuple[np.ndarray, np.ndarray]:
        import torch

        with torch.no_grad():
            both = self._model(torch.from_numpy(self.text[:, : prompt + 1])).logits.numpy()
        return both[:, :prompt], both[:, prompt:]


def measure(
    graphs: dict[str, Graph], reference: Reference, prompt: int, rounds: int, steps: int, prefill: bool
) -> dict[str, dict]:
    """One decode step after `prompt` tokens, and if asked the prefill of those tokens: a workload each."""
    tokens, following = reference.text[:, :prompt], reference.text[:, prompt : prompt + 1]
    wanted = reference.logits(prompt)
    nothing = [np.zeros((1, 3, 0, 64), np.float32)] * 60
    starts = {name: graph.feeds(tokens, nothing) for name, graph in graphs.items()}
    prefilled = {name: graph.run(starts[name]) for name, graph in graphs.items()}
    errors = {name: _error(outputs[0], wanted[0], name) for name, outputs in prefilled.items()}
    caching = {name: graph for name, graph in graphs.items() if graph.takes_cache}
    nexts = {name: graph.feeds(following, prefilled[name][1:]) for name, graph in caching.items()}
    later = {name: _error(graph.run(nexts[name])[0], wanted[1], name) for name, graph in caching.items()}
    del prefilled

    workloads = {}
    if prefill:
        click.echo(f"Timing prefill {prompt} …", err=True)
        prefills = {name: partial(graph.run, starts[name]) for name, graph in graphs.items()}
        workloads[f"prefill {prompt}"] = _result(common.interleaved(prefills, rounds), errors)
    click.echo(f"Timing decode @{prompt} …", err=True)
    decodes = {name: partial(graph.run, nexts[name]) for name, graph in caching.items()}
    workloads[f"decode @{prompt}"] = _result(common.interleaved(decodes, 2 * rounds, repeats=steps), later)
    return workloads


def _error(ours: np.ndarray, wanted: np.ndarray, name: str) -> float:
    error = float(np.abs(ours - wanted).max())
    if not error <= LARGEST_ERROR:
        raise click.ClickException(f"{name}: logits differ from PyTorch's by {error:.2g}; its time means nothing.")
    return error


def _result(spent: common.Times, errors: dict[str, float]) -> dict[str, dict]:
    rows = common.summary(spent, (GENAI, TRANSFORMERS, PREFILL_GRAPH))
    return {name: row | {"max_logits_error": errors[name]} for name, row in rows.items()}


@click.command(help=__doc__.split("\n")[0])
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK, help="Where models and graphs are kept.")
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
@click.option("--threads", default=2)
@click.option("--rounds", default=17, help="Turns of each graph; decode takes twice as many.")
@click.option("--steps", default=4, help="Decode steps in one turn.")
@click.option(
    "--prompt", "prompts", multiple=True, type=int, default=(128, 512), help="Context; the first is prefilled."
)
def main(work: Path, results: Path, threads: int, rounds: int, steps: int, prompts: tuple[int, ...]) -> None:
    common.offline()
    hf = common.model_folder(work)
    with common.recording("latency", results) as result:
        genai, others = peers.genai_folder(hf, work), peers.transformers_folder(hf, work)
        paths = {name: folder / "model.onnx" for name, folder in common.export_ours(hf, work).items()}
        paths |= {GENAI: genai / "model.onnx", TRANSFORMERS: others / "decode.onnx"}
        paths[PREFILL_GRAPH] = others / "prefill.onnx"
        graphs = {name: Graph(path, threads) for name, path in paths.items()}
        reference = Reference(hf)
        result |= {"model": common.MODEL, "dtype": "float32", "threads": threads, "rounds": rounds, "steps": steps}
        result["workloads"] = {}
        for prompt in prompts:
            first = prompt == prompts[0]
            result["workloads"] |= measure(graphs, reference, prompt, rounds, steps, prefill=first)
    for workload, rows in result["workloads"].items():
        for name, row in rows.items():
            click.echo(f"{workload:14} {name:40} {row['median_ms']:8.2f} ms  {row['ratio_to']}")


if __name__ == "__main__":
    main()
