"""The runtimes by name: what each is used for, what it needs and what opens it. There is no other list of their names.

The command line, the TOML reader, the options of commands, benchmarks and `runtimes` derive from this. To add a
runtime: a record here, a file with its `open_target` in `runtimes/`, a test of that file, a line of docs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rope_deploy.errors import UsageError


@dataclass(frozen=True)
class RuntimeKind:
    """One runtime, by the `name` that options and reports have for it.

    title         what messages call it
    opens         what it runs: a "model" that PyTorch loaded, an "artifact" of any style, or an "engine" of one
    module        its `open_target` opens it (see `runtimes.targets`)
    packages      what must be installed: any of these, as the doctor names them; reports state their versions
    checked       `check` compares it with PyTorch
    reference     it is PyTorch's own result, to which `check` compares the others
    optional      many machines cannot run it although nothing is wrong (no GPU, no C++ compiler): a benchmark goes on
                  without it
    sets_threads  its number of threads is chosen when it is opened, so that one thread's processor time can be measured
    compiles      its first call of a workload compiles, which can fail and is not to be timed
    on_gpu        it computes on a GPU alone, so that the processor's time says nothing of it
    profiled      its profiler tells the rotation's share of the time (`runtimes.ort_profile`)
    generated     `ci` continues the prompts of [generate] with it, beside the reference
    """

    name: str
    title: str
    opens: Literal["model", "artifact", "engine"]
    module: str
    packages: tuple[str, ...]
    checked: bool = False
    reference: bool = False
    optional: bool = False
    sets_threads: bool = False
    compiles: bool = False
    on_gpu: bool = False
    profiled: bool = False
    generated: bool = False


_RECORDS = (
    RuntimeKind(
        "torch", "PyTorch", "model", "rope_deploy.runtimes.pytorch", ("torch",), reference=True, sets_threads=True
    ),
    RuntimeKind(
        "torch-compile",
        "torch.compile",
        "model",
        "rope_deploy.runtimes.torch_compiled",
        ("torch",),
        optional=True,
        compiles=True,
    ),
    RuntimeKind(
        "ort",
        "ONNX Runtime",
        "artifact",
        "rope_deploy.runtimes.onnx_runtime",
        ("onnxruntime",),
        checked=True,
        sets_threads=True,
        profiled=True,
        generated=True,
    ),
    RuntimeKind(
        "trt",
        "TensorRT",
        "engine",
        "rope_deploy.runtimes.trt_engine",
        ("tensorrt", "tensorrt-rtx"),
        checked=True,
        optional=True,
        on_gpu=True,
    ),
)
RUNTIMES: Mapping[str, RuntimeKind] = {kind.name: kind for kind in _RECORDS}
TIMED = tuple(RUNTIMES)  # `bench` times each
CHECKED = tuple(name for name, kind in RUNTIMES.items() if kind.checked)
# `check` takes the reference too, and does with it what it does anyway.
ACCEPTED_BY_CHECK = tuple(name for name, kind in RUNTIMES.items() if kind.checked or kind.reference)
OPTIONAL = tuple(name for name, kind in RUNTIMES.items() if kind.optional)
ON_GPU = tuple(name for name, kind in RUNTIMES.items() if kind.on_gpu)
GENERATED = tuple(name for name, kind in RUNTIMES.items() if kind.generated)
REFERENCE = next(name for name, kind in RUNTIMES.items() if kind.reference)
FILE = "file"  # stands in a record for a runtime: what it says was read from the file, and nothing was run
TITLES: Mapping[str, str] = {name: kind.title for name, kind in RUNTIMES.items()} | {FILE: "the file itself"}
# For annotations that pydantic validates: a type checker sees a string, since the names are computed.
TimedName = Literal[TIMED]
CheckedName = Literal[CHECKED]


def require_runtimes(names: Sequence[str], engine: object | None, known: Sequence[str]) -> None:
    """Raise UsageError for a runtime that is not `known`, for none at all, or for trt without an engine."""
    if not names:
        raise UsageError("No runtime was named.", exists=f"Runtimes: {', '.join(known)}.")
    if strange := [name for name in names if name not in known]:
        raise UsageError(f"Unknown runtime {', '.join(strange)}.", exists=f"Runtimes: {', '.join(known)}.")
    if engine is None and (needing := [name for name in names if RUNTIMES[name].opens == "engine"]):
        raise UsageError(
            f"Runtime {needing[0]} needs an engine.",
            todo="Make one with `rope-deploy build`, and give it with --engine FILE.",
        )
