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
    packages      what must be installed: any of these, as the doctor names them
    checked       `check` compares it with PyTorch
    reference     it is PyTorch's own result, to which `check` compares the others
    optional      many machines cannot run it although nothing is wrong (no GPU, no C++ compiler): a benchmark goes on
                  without it
    sets_threads  its number of threads is chosen when it is opened, so that one thread's processor time can be measured
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


_RECORDS = (
    RuntimeKind(
        "torch", "PyTorch", "model", "rope_deploy.runtimes.pytorch", ("torch",), reference=True, sets_threads=True
    ),
    RuntimeKind(
        "torch-compile", "torch.compile", "model", "rope_deploy.runtimes.torch_compiled", ("torch",), optional=True
    ),
    RuntimeKind(
        "ort",
        "ONNX Runtime",
        "artifact",
        "rope_deploy.runtimes.onnx_runtime",
        ("onnxruntime",),
        checked=True,
        sets_threads=True,
    ),
    RuntimeKind(
        "trt",
        "TensorRT",
        "engine",
        "rope_deploy.runtimes.trt_engine",
        ("tensorrt", "tensorrt-rtx"),
        checked=True,
        optional=True,
    ),
)
RUNTIMES: Mapping[str, RuntimeKind] = {kind.name: kind for kind in _RECORDS}
TIMED = tuple(RUNTIMES)  # `bench` times each
CHECKED = tuple(name for name, kind in RUNTIMES.items() if kind.checked)
# `check` takes the reference too, and does with it what it does anyway.
ACCEPTED_BY_CHECK = tuple(name for name, kind in RUNTIMES.items() if kind.checked or kind.reference)
OPTIONAL = tuple(name for name, kind in RUNTIMES.items() if kind.optional)
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
