"""Make the graphs that other exporters make of the same weights. Each runs in a process of its own, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.common import offline
from rope_deploy.artifact import new_folder

# Two rows of five tokens: what the exporter traces with. dynamic=True leaves batch and length free.
EXAMPLE = ([[504, 3575, 282, 4649, 314], [19556, 655, 527, 5953, 2731]], [[1] * 5] * 2)


def genai_folder(hf: Path, work: Path) -> Path:
    """onnxruntime-genai's builder: model.onnx, GroupQueryAttention with the rotation fused."""
    target = work / "genai"
    if not target.exists():
        with new_folder(target) as temporary:
            command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
            command += ["-m", str(hf), "-i", str(hf), "-o", str(temporary), "-p", "fp32", "-e", "cpu"]
            command += ["-c", str(work / "cache"), "--extra_options", "hf_token=false"]
            _run(command, work / "genai.log")
    return target


def transformers_folder(hf: Path, work: Path) -> Path:
    """transformers.exporters: prefill.onnx without a cache and decode.onnx, which takes any number of tokens."""
    target = work / "transformers"
    if not target.exists():
        with new_folder(target) as temporary:
            _run([sys.executable, "-m", "benchmarks.peers", str(hf), str(temporary)], work / "transformers.log")
    return target


def export_by_transformers(model, folder: Path) -> None:
    """export_for_generation as its documentation shows it, then saved."""
    import torch
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    ids, mask = (torch.tensor(rows) for rows in EXAMPLE)
    example = {"input_ids": ids, "attention_mask": mask}
    exported = OnnxExporter().export_for_generation(model, example, OnnxConfig(dynamic=True), multi_token_decode=True)
    exported.save_pretrained(folder)


def _run(command: list[str], log: Path) -> None:
    print(f"Running {' '.join(command[1:4])} …", file=sys.stderr, flush=True)
    with log.open("w") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode
    if code:
        sys.exit(f"{' '.join(command)} failed with exit code {code}:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    offline()
    from benchmarks.common import stock_model

    export_by_transformers(stock_model(Path(sys.argv[1])), Path(sys.argv[2]))
