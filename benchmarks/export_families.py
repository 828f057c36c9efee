"""Time of one graph of a decoder with its KV cache: our export in one style, and transformers.exporters' of the same.

    python -m benchmarks.export_families              # all models, anew
    python -m benchmarks.export_families llama glm    # these, beside what is in the results

The families of the sweep, tiny and random; one of them also with more layers; and SmolLM2-135M. Theirs is the graph
`decode` of `export_for_generation(multi_token_decode=True)`, which takes any past and any number of tokens as ours
does; the recording of its inputs is not timed, nor their second graph. Timed is the way from the loaded model to the
last byte on disk. Contestants take turns in one process a model, in a new random order each round, each with a model
of its own; the first round is not counted. Processor time is what a quiet machine would take: nothing of it runs in
parallel.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import common

STYLE = "onnx"
OURS, TRANSFORMERS = "rope-deploy", "transformers.exporters"
DEEP = "llama@24"  # a family and how many layers
REAL = "SmolLM2-135M"
MODELS = (
    "llama",
    "qwen3",
    "phi3",
    "gptj",
    "gpt_neox",
    "glm",
    "cohere2",
    "gemma3_text",
    "gpt_oss",
    "mixtral",
    "deepseek_v2",
    "deepseek_v3",
    "llama4_text",
    "falcon",
    "lfm2",
    "qwen3_next",
    "bamba",
    DEEP,
    "mixtral@16",
    REAL,
)
LIMIT = 1.3


def model_of(name: str, hf: Path):
    """A new model, ready to be exported."""
    if name == REAL:
        return common.stock_model(hf)
    from conformance.families.census import select
    from conformance.families.tiny import tiny_config, tiny_model

    family, _, layers = name.partition("@")
    (found,) = select((family,), ())
    config = tiny_config(found)
    if layers:
        config = type(config)(**{**config.to_dict(), "num_hidden_layers": int(layers), "layer_types": None})
    return tiny_model(found, config=config)


def by_us(model, folder: Path) -> Callable[[], object]:
    """What is timed; what goes before it is done when this returns."""
    from rope_deploy import api

    with tempfile.TemporaryDirectory(dir=folder.parent) as saved:
        model.save_pretrained(saved)
        loaded = api.load(saved)
        loaded.model.eval()
    return lambda: api.export(loaded, folder, styles=(STYLE,))


def by_transformers(model, folder: Path) -> Callable[[], object]:
    import torch
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter
    from transformers.exporters.utils import decompose_for_generation

    ids = torch.arange(4, 14).reshape(2, 5)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    graph, inputs = decompose_for_generation(model, example, multi_token_decode=True)["decode"]
    config = OnnxConfig(dynamic=True)
    return lambda: OnnxExporter().export(graph, inputs, config).save_pretrained(folder)


CONTESTANTS = {OURS: by_us, TRANSFORMERS: by_transformers}


def measure(name: str, rounds: int, work: Path) -> dict[str, Any]:
    """Seconds and processor seconds of each contestant by round, the first not counted; or why it made no graph."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    order, spent = random.Random(0), {contestant: [] for contestant in CONTESTANTS}
    failed: dict[str, str] = {}
    for _ in range(rounds + 1):
        for contestant in order.sample(list(CONTESTANTS), len(CONTESTANTS)):
            if contestant not in failed:
                try:
                    spent[contestant].append(_once(contestant, model_of(name, work / "hf"), work))
                except Exception as error:  # theirs may raise anything, and ours refuses
                    failed[contestant] = _innermost(error)
    return {"spent": {name: times[1:] for name, times in spent.items() if name not in failed}, "failed": failed}


def _once(contestant: str, model, work: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        export = CONTESTANTS[contestant](model, Path(temporary, "exported"))
        gc.collect()
        began, worked = time.perf_counter(), time.process_time()
        export()
        return round(time.perf_counter() - began, 3), round(time.process_time() - worked, 3)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0] if words else ''}"[:200]


def summarise(measured: dict[str, Any]) -> dict[str, Any]:
    """Medians, and the medians over rounds of our time relative to theirs."""
    spent = measured["spent"]
    row: dict[str, Any] = {}
    for contestant, times in spent.items():
        row[contestant] = dict(zip(("export_s", "export_cpu_s"), np.median(times, axis=0).round(3).tolist()))
    if len(spent) == len(CONTESTANTS):
        ratios = np.array(spent[OURS]) / np.array(spent[TRANSFORMERS])
        row |= dict(zip(("export_s_ratio", "export_cpu_s_ratio"), np.median(ratios, axis=0).round(4).tolist()))
    return row | {"failed": measured["failed"], "runs": spent}


def in_process(name: str, rounds: int, work: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.export_families", "--one", "--rounds", str(rounds)]
    done = subprocess.run([*command, "--work", str(work), name], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@click.command(help=__doc__.split("\n")[0])
@click.argument("names", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK, help="Where models and graphs are kept.")
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
@click.option("--rounds", default=3, show_default=True)
@click.option("--one", is_flag=True, hidden=True, help="Measure in this process and say how.")
def main(names: Sequence[str], work: Path, results: Path, rounds: int, one: bool) -> None:
    common.offline()
    work.mkdir(parents=True, exist_ok=True)
    if one:
        stream = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints is no result
        print(json.dumps(measure(names[0], rounds, work)), file=stream, flush=True)
        return
    common.model_folder(work)
    done = _measured(results / "export_families.json") if names else {}
    for name in names or MODELS:
        with common.recording("export_families", results) as result:
            machine = common.Machine()
            row = summarise(in_process(name, rounds, work))
            about = machine.describe()
            row |= {key: about[key] for key in ("date", "cores_used_by_others")} | {"rounds": rounds}
            done[name] = row
            result |= {"style": STYLE, "limit": LIMIT, "models": done}
        click.echo(f"{name:20} " + "  ".join(f"{k} {v}" for k, v in row.items() if k != "runs"))


def _measured(file: Path) -> dict[str, Any]:
    """The rows that are there, of models in no particular run: each says when it was measured."""
    return json.loads(file.read_text())["models"] if file.exists() else {}


if __name__ == "__main__":
    main()
