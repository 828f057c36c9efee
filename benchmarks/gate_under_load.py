"""The latency gate of SmolLM2 while other processes are busy: is a sound artifact left in peace, a slow one found?

    python -m benchmarks.gate_under_load

The baseline is made on the quiet machine. Then two artifacts are held against it, the same one and one that computes
at least 1.3 times as much (some of its matrix products are done twice, the second time for nothing), without load and
beside as many busy processes as `--hogs` says. The gate's limit is its default, 1.2.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks import common

LIMIT = 1.2
EXTRA = 0.45  # of the matrix products, to compute 1.3 times as much at least


def slowed(artifact: Path, target: Path) -> Path:
    """`artifact` with more to compute: every so many products are done again with another layer's weights, times 0.

    Weights of a layer far away: those of one nearby would still be in the processor's cache, and cost a decode nothing.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(artifact, target)
    model = onnx.load(target / "model.onnx", load_external_data=False)
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in shapes]
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
    chosen = [node for number, node in enumerate(products[:-1]) if number * EXTRA % 1 < EXTRA]
    for number, node in enumerate(chosen):
        alike = [one.input[1] for one in products if shapes[one.input[1]] == shapes[node.input[1]]]
        other = alike[(alike.index(node.input[1]) + len(alike) // 2) % len(alike)]
        if other == node.input[1]:
            continue
        result, at = node.output[0], list(graph.node).index(node)
        node.output[0] = f"{result}/own"
        added = [
            helper.make_node("MatMul", [node.input[0], other], [f"{result}/extra"], f"extra/{number}"),
            helper.make_node("Mul", [f"{result}/extra", "nothing"], [f"{result}/zero"], f"zero/{number}"),
            helper.make_node("Add", [f"{result}/own", f"{result}/zero"], [result], f"sum/{number}"),
        ]
        for step, one in enumerate(added):
            graph.node.insert(at + 1 + step, one)
    onnx.save(model, target / "model.onnx")
    return target


@contextmanager
def busy(count: int) -> Iterator[None]:
    """`count` processes that do nothing but compute."""
    hogs = [multiprocessing.get_context("fork").Process(target=_compute, daemon=True) for _ in range(count)]
    for hog in hogs:
        hog.start()
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.join()


def _compute() -> None:
    while True:
        pass


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--hogs", default="0,1,2", show_default=True, help="Numbers of busy processes.")
def main(work: Path, rounds: int, hogs: str) -> None:
    common.offline()
    from rope_deploy import api

    hf = common.model_folder(work)
    with common.recording("gate_under_load") as result:
        (record,) = api.export(str(hf), work / "gate" / "sound", styles=["tables"], force=True)
        sound = Path(record.folder)
        slow = slowed(sound, work / "gate" / "slow")
        asked = {"runtimes": ("torch", "ort"), "model": str(hf), "prompt": 64, "new": 8, "rounds": rounds}
        baseline = work / "gate" / "baseline.json"
        api.write_report(api.bench(sound, **asked), baseline)
        result |= {"limit": LIMIT, "rounds": rounds, "gates": []}
        for count in map(int, hogs.split(",")):
            for name, artifact in (("sound", sound), ("slow", slow)):
                with busy(count):
                    report = api.bench(artifact, **asked, baseline=baseline, max_slowdown=LIMIT)
                for row in _rows(report):
                    result["gates"].append({"busy processes": count, "artifact": name, **row})
                    click.echo(result["gates"][-1])


def _rows(report: Any) -> Iterator[dict[str, Any]]:
    """What each gate said, with what the first measurement saw."""
    timed = {f"max_slowdown: {one.runtime} {one.style} {one.workload}": one for one in report.latencies}
    for gate in report.gates:
        one = timed[gate.name]
        yield {"workload": one.workload, "waiting": one.waiting, "verdict": gate.verdict, "said": gate.measured}


if __name__ == "__main__":
    main()
