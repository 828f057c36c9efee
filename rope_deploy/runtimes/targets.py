"""What a runtime is to open, and the functions that open any runtime by its name (see `runtime_registry`)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import Manifest
from rope_deploy.runtime_registry import RUNTIMES
from rope_deploy.runtimes.isolated import open_isolated
from rope_deploy.runtimes.protocol import Runtime

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel

OPENER = "rope_deploy.runtimes.targets:open_runtime"


@dataclass(frozen=True)
class Target:
    """What is to be opened: an artifact's `folder`, with the `engine` built from it or the `loaded` model.

    `manifest`: of the artifact that the engine was built from, read from the folder if it is None; a runtime that
    opens an artifact reads the folder's own. `threads`: None lets the runtime choose. `taps`: what happens at
    the rotation sites is wanted too. `verify`: the files are compared with the manifest's hashes.
    """

    folder: Path | None = None
    engine: Path | None = None
    loaded: LoadedModel | None = None
    manifest: Manifest | None = None
    threads: int | None = None
    taps: bool = False
    verify: bool = False


def open_runtime(name: str, target: Target) -> Runtime:
    """Open `target` in the runtime called `name`. Raises what keeps it from opening."""
    return import_module(RUNTIMES[name].module).open_target(target)


def open_in_child(name: str, target: Target) -> Runtime:
    """Open `target`, which holds no loaded model, in a process of its own: a vendor's library may crash on the file."""
    return open_isolated(name, OPENER, {"name": name, "target": target})
