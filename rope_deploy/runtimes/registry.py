"""Every runtime that a command can name: one record each, and the one function that opens them.

To add a runtime: a record here, a file with its `open_target`, a test of that file, a line of docs. Tests say which
lists elsewhere must name it too, where these may not import this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rope_deploy.artifact import Manifest
from rope_deploy.runtimes.isolated import open_isolated
from rope_deploy.runtimes.protocol import Runtime

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel

OPENER = "rope_deploy.runtimes.registry:open_runtime"


@dataclass(frozen=True)
class Target:
    """What a runtime is to open: an artifact's `folder`, with the `engine` built from it or the `loaded` model.

    `manifest` is read from the folder if it is None. `threads`: None lets the runtime choose. `taps`: what happens at
    the rotation sites is wanted too. `verify`: the files are compared with the manifest's hashes.
    """

    folder: Path | None = None
    engine: Path | None = None
    loaded: LoadedModel | None = None
    manifest: Manifest | None = None
    threads: int | None = None
    taps: bool = False
    verify: bool = False


@dataclass(frozen=True)
class RuntimeRecord:
    """`name` is written on the command line, `title` in sentences. `opens`: what of a target it needs.

    `module`: its `open_target` makes the runtime. `packages`: what must be installed, as the doctor names it. `taps`:
    it can show what happens at the rotation sites. `checks`: `check` accepts it. `optional`: many machines cannot run
    it although nothing is wrong (no GPU, no C++ compiler), so a benchmark goes on without it. `sets_threads`: its
    number of threads can be chosen when it is opened, so that processor times of one thread can be taken.
    """

    name: str
    title: str
    opens: Literal["model", "artifact", "engine"]
    module: str
    packages: tuple[str, ...]
    taps: bool = False
    checks: bool = False
    optional: bool = False
    sets_threads: bool = False


RUNTIMES = {
    record.name: record
    for record in (
        RuntimeRecord(
            "torch",
            "PyTorch",
            "model",
            "rope_deploy.runtimes.pytorch",
            ("torch", "transformers"),
            taps=True,
            checks=True,
            sets_threads=True,
        ),
        RuntimeRecord(
            "torch-compile",
            "torch.compile",
            "model",
            "rope_deploy.runtimes.torch_compiled",
            ("torch", "transformers"),
            optional=True,
        ),
        RuntimeRecord(
            "ort",
            "ONNX Runtime",
            "artifact",
            "rope_deploy.runtimes.onnx_runtime",
            ("onnxruntime",),
            taps=True,
            checks=True,
            sets_threads=True,
        ),
        RuntimeRecord(
            "trt",
            "TensorRT",
            "engine",
            "rope_deploy.runtimes.trt_engine",
            ("polygraphy", "tensorrt", "tensorrt-rtx"),
            taps=True,
            checks=True,
            optional=True,
        ),
    )
}
CHECKED = tuple(record.name for record in RUNTIMES.values() if record.checks)


def open_runtime(name: str, target: Target) -> Runtime:
    """Open `target` in the runtime called `name`. Raises what keeps it from opening."""
    return import_module(RUNTIMES[name].module).open_target(target)


def open_in_child(name: str, target: Target) -> Runtime:
    """The same in a process of its own: a vendor's library may crash on the file. Not for a loaded model."""
    return open_isolated(name, OPENER, {"name": name, "target": target})
