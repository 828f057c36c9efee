"""Time and memory of `check --audit` on files the size of a large model, whose weights are there in name only.

    python -m benchmarks.audit

A Llama of eight billion parameters in fp16, with a context of 131072, is built of tensors that repeat one number, and
written with sparse external data: the files have their full size and take no space. Three graphs of it are audited,
each round in a process of its own: our `tables` and `contrib`, and torch.onnx's at opset 18.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

from benchmarks import common

LIMIT_S, LIMIT_MB = 5.0, 500.0
OURS = ("tables", "contrib")
TORCH = "torch.onnx, opset 18"
SPARSE_FROM = 20 << 20  # bytes; what is smaller is written as it is, the tables of cosines among it
LLAMA = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def hollow_model():
    """The model with every parameter one number, seen in its full shape."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(**LLAMA)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    for name, parameter in list(model.named_parameters()):
        owner, _, last = name.rpartition(".")
        one = torch.full((1,), 0.01, dtype=torch.float16).expand(parameter.shape)
        setattr(model.get_submodule(owner), last, torch.nn.Parameter(one, requires_grad=False))
    model.model.rotary_emb = LlamaRotaryEmbedding(config)
    return model.eval()


def write_ours(folder: Path) -> None:
    from rope_deploy.export import prepare
    from rope_deploy.graph.lower.lower_rotations import lower_rotations
    from rope_deploy.models import wrap

    model = hollow_model()
    config = json.loads(model.config.to_json_string(use_diff=False))
    prepared = prepare(wrap(model, config, source="hollow", dtype="float16"))
    for style in OURS:
        save_sparse(lower_rotations(prepared.raised, style).model, folder / style, config)


def write_theirs(folder: Path) -> None:
    import torch

    model = hollow_model()
    model.config._attn_implementation = "eager"

    class WithPositions(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, position_ids):
            return self.model(input_ids=input_ids, position_ids=position_ids, use_cache=False).logits

    ids = torch.ones(2, 5, dtype=torch.long)
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence")
    program = torch.onnx.export(
        WithPositions(),
        (ids, ids.cumsum(1)),
        dynamo=True,
        opset_version=18,
        optimize=False,
        verbose=False,
        dynamic_shapes=({0: batch, 1: sequence},) * 2,
    )
    save_sparse(program.model, folder / TORCH, json.loads(model.config.to_json_string(use_diff=False)))


def save_sparse(model, folder: Path, config: dict) -> None:
    """Write the graph, its config and a data file in which large tensors are holes."""
    import onnx_ir as ir

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    end = 0
    with (folder / "model.onnx.data").open("wb") as stream:
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor.nbytes < 1024:
                continue
            end = -(-end // 4096) * 4096
            if tensor.nbytes < SPARSE_FROM:
                stream.seek(end)
                stream.write(np.ascontiguousarray(tensor.numpy()).tobytes())
            value.const_value = ir.ExternalTensor(
                "model.onnx.data", end, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name
            )
            end += tensor.nbytes
        stream.truncate(end)
    ir.save(model, folder / "model.onnx")


def measure(file: Path) -> dict[str, float]:
    """One audit in a process of its own: its wall and processor time, and the most memory it had.

    A process counts as its own what its parent had when it was forked: this script must not have loaded a model.
    """
    config = file.parent / "config.json"
    command = [sys.executable, "-m", "rope_deploy", "check", "--audit", str(file), "--against", str(config), "--json"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, errors = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise click.ClickException(f"The audit of {file} failed with exit code {process.returncode}:\n{out}{errors}")
    return {
        "seconds": round(seconds, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6, 1),
        "report": out,
    }


WRITERS = {"ours": write_ours, "theirs": write_theirs}


@click.command(help=__doc__.split("\n")[0])
@click.option("--rounds", default=5, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK)
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
@click.option("--write", nargs=2, default=None, hidden=True)
def main(rounds: int, work: Path, results: Path, write: tuple[str, str] | None) -> None:
    common.offline()
    target = work / "hollow"
    if write is not None:
        name, folder = write
        WRITERS[name](Path(folder))
        return
    for name in WRITERS:
        if not (target / name).exists():
            click.echo(f"Writing {target / name} …", err=True)
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            temporary = target / f".{name}.tmp"
            subprocess.run([sys.executable, "-m", "benchmarks.audit", "--write", name, str(temporary)], check=True)
            temporary.rename(target / name)
    files = {path.parent.name: path for path in sorted(target.glob("*/*/model.onnx"))}
    with common.recording("audit", results) as found:
        runs = {name: [] for name in files}
        for _ in range(rounds):
            for name, file in files.items():
                runs[name].append(measure(file))
        found["model"] = {"family": "llama", "dtype": "float16", "positions": LLAMA["max_position_embeddings"]}
        found["rounds"] = rounds
        found["limits"] = {"seconds": LIMIT_S, "peak_mb": LIMIT_MB}
        found["contestants"] = {name: row(files[name], measured) for name, measured in runs.items()}


def row(file: Path, measured: list[dict]) -> dict[str, float]:
    report = json.loads(measured[0]["report"])
    tables = [check for check in report["checks"] if check["case"].startswith("table ")]
    return {
        "file_gb": round((file.parent / "model.onnx.data").stat().st_size / 1e9, 2),
        "tables": len(tables),
        "checks": len(report["checks"]),
        "median_s": float(np.median([run["seconds"] for run in measured])),
        "cpu_s": float(np.median([run["cpu_s"] for run in measured])),
        "slowest_s": max(run["seconds"] for run in measured),
        "peak_mb": max(run["peak_mb"] for run in measured),
    }


if __name__ == "__main__":
    main()
