"""Wall time and peak memory of an export with KV cache: ours, and transformers.exporters' on the same model.

    python -m benchmarks.export_time

Every export runs in a process of its own, the contestants in turn. "export" runs from the loaded model to the last
byte on disk, "process" also counts imports and loading; processor time says less about who else was busy. Peak
memory is the largest resident set of the process: weights, libraries and all.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks import common, peers

TRANSFORMERS = "transformers.exporters"
CONTESTANTS = {
    "one style": ("tables",),
    "all four styles": common.STYLES,
    TRANSFORMERS: None,
}


def export(name: str, hf: Path, folder: Path) -> dict[str, float]:
    """Export in this process; seconds of it, and peak memory so far in MB."""
    import torch  # noqa: F401  (imported by both: not part of the export)
    import transformers  # noqa: F401

    styles = CONTESTANTS[name]
    if styles is None:
        model = common.stock_model(hf)
        began, worked = time.perf_counter(), time.process_time()
        peers.export_by_transformers(model, folder)
    else:
        from rope_deploy import api

        loaded = api.load(str(hf))
        began, worked = time.perf_counter(), time.process_time()
        api.export(loaded, folder, styles=styles)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"export_s": round(seconds, 2), "export_cpu_s": round(cpu, 2), "peak_mb": round(peak)}


def in_process(name: str, hf: Path) -> dict[str, float]:
    """The same in a new process, with the time of the whole of it."""
    with tempfile.TemporaryDirectory(dir=hf.parent) as temporary:
        command = [sys.executable, "-m", "benchmarks.export_time", "--one", name, "--into", f"{temporary}/exported"]
        began = time.perf_counter()
        done = subprocess.run([*command, "--work", str(hf.parent)], capture_output=True, text=True)
        seconds = time.perf_counter() - began
    if done.returncode:
        raise click.ClickException(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"process_s": round(seconds, 2)}


def summarise(runs: dict[str, list[dict[str, float]]], weights_mb: float) -> dict[str, dict]:
    """Medians of each contestant, its time relative to transformers.exporters', its memory relative to the weights."""
    rows = {}
    for name, measured in runs.items():
        row = {key: float(np.median([run[key] for run in measured])) for key in measured[0]}
        for key in ("export_s", "export_cpu_s", "process_s"):
            pairs = zip(measured, runs[TRANSFORMERS])
            row[f"{key}_ratio"] = round(float(np.median([ours[key] / theirs[key] for ours, theirs in pairs])), 4)
        row["peak_over_weights"] = round(max(run["peak_mb"] for run in measured) / weights_mb, 3)
        rows[name] = row | {"runs": measured}
    return rows


@click.command(help=__doc__.split("\n")[0])
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK, help="Where models and graphs are kept.")
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
@click.option("--rounds", default=3)
@click.option("--one", type=click.Choice(list(CONTESTANTS)), hidden=True, help="Export in this process and say how.")
@click.option("--into", type=click.Path(path_type=Path), hidden=True)
def main(work: Path, results: Path, rounds: int, one: str | None, into: Path | None) -> None:
    common.offline()
    hf = common.model_folder(work)
    if one and into:
        click.echo(json.dumps(export(one, hf, into)))
        return
    with common.recording("export_time", results) as result:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
        for number in range(rounds):
            names = list(CONTESTANTS)
            for name in names[number % 3 :] + names[: number % 3]:
                runs[name].append(in_process(name, hf))
                click.echo(f"round {number + 1}: {name:24} {runs[name][-1]}", err=True)
        weights = (hf / "model.safetensors").stat().st_size / 1e6
        result |= {"model": common.MODEL, "dtype": "float32", "rounds": rounds, "weights_mb": round(weights)}
        result["contestants"] = summarise(runs, weights)
    for name, row in result["contestants"].items():
        click.echo(f"{name:24} " + "  ".join(f"{k} {v}" for k, v in row.items() if k != "runs"))


if __name__ == "__main__":
    main()
