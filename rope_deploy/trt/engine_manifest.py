"""Write and read `FILE.engine.json`: what an engine was built from, for which GPUs and shapes, and with what.

An engine cannot be opened on a machine without the GPU it is for; this file can be read anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from rope_deploy.artifact import FileInfo, TensorInfo, hash_file, new_file, read_versioned, write_utf8
from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.results.records import EngineRecord
from rope_deploy.trt.profiles import Profile

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class EngineManifest:
    """What an engine was built from, and for what. `files`: graph and weights by name; `engine`: the engine file.

    `style` is empty when the graph was not exported by rope-deploy. `profiles` are in the engine's order. `warnings`
    are what the vendor's library logged as a warning or an error, each once. `taps`: values inside the graph that the
    engine also returns. `chosen`: why it is this style, "" if `build` was not given --style.
    `previous`: the manifest of the engine that is replaced, until the new engine is in place (see `replacing_engine`).
    """

    source: str
    files: dict[str, FileInfo]
    style: str
    dtype: str
    flavor: str
    capabilities: tuple[str, ...]
    profiles: tuple[Profile, ...]
    inputs: tuple[TensorInfo, ...]
    engine: FileInfo
    seconds: float
    plugins: dict[str, FileInfo] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    tf32: bool = False
    taps: tuple[str, ...] = ()
    chosen: str = ""
    previous: EngineManifest | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    def to_record(self, path: Path) -> EngineRecord:
        message = f"style {self.style}: {self.chosen}; " if self.chosen else ""
        message += f"profiles: {', '.join(profile.name for profile in self.profiles)}"
        if self.warnings:
            message += f"; {len(self.warnings)} warning(s), the first: {self.warnings[0]}"
        return EngineRecord(
            path=str(path),
            style=self.style,
            flavor=self.flavor,
            capabilities=self.capabilities,
            bytes=self.engine.bytes,
            seconds=self.seconds,
            verdict="passed",
            message=message,
        )


_ADAPTER = TypeAdapter(EngineManifest)


def manifest_path(engine: Path) -> Path:
    """Where the manifest of `engine` lies: `engine`.json."""
    engine = Path(engine)
    return engine.with_name(engine.name + ".json")


@contextmanager
def replacing_engine(target: Path, manifest: EngineManifest) -> Iterator[None]:
    """Write `manifest` beside `target` while the block replaces the engine there.

    They are two files and cannot be replaced in one step. So the new manifest holds the old one until the engine is in
    place: whenever the run is killed, the one that fits the engine is there, and `load_engine_manifest` returns it.
    """
    path = manifest_path(target)
    try:
        previous = replace(load_engine_manifest(target), previous=None)
    except RopeDeployError:  # there is no engine yet, or one without a manifest: nothing can be put back
        previous = None
    with new_file(path) as document:
        write_utf8(document, replace(manifest, previous=previous).to_json())
    try:
        yield
    except BaseException:
        if previous is None:
            path.unlink(missing_ok=True)
        raise
    if previous is not None:
        with new_file(path) as document:
            write_utf8(document, manifest.to_json())


def refuse_manifest(engine: Path) -> None:
    """Raise UsageError if the file at the manifest's path is no engine manifest: nobody asked to replace it."""
    path = manifest_path(engine)
    if os.path.lexists(path):
        try:
            load_engine_manifest(engine)
        except RopeDeployError as error:
            raise UsageError(
                f"{path} is in the way: the engine's manifest goes there, and it is none, or none of this version.",
                exists=error.asked,
                todo="Move it away, or choose another name for the engine.",
            ) from None


def refuse_foreign_engine(engine: Path) -> None:
    """Raise UsageError if something lies at `engine` that no build wrote, for a caller whose user did not name it."""
    if os.path.lexists(engine):
        try:
            load_engine_manifest(engine)
        except RopeDeployError:
            raise UsageError(
                f"{engine} is in the way: it is no engine of rope-deploy, so none replaces it.",
                todo="Move it away, or choose another output folder.",
            ) from None


def engine_mismatch(engine: Path, manifest: EngineManifest) -> Literal["", "missing", "changed"]:
    """How the file `engine` differs from what `manifest` describes, "" if it does not; the whole file is hashed."""
    if not Path(engine).is_file():
        return "missing"
    return "" if hash_file(Path(engine)) == manifest.engine else "changed"


def load_engine_manifest(engine: Path) -> EngineManifest:
    """Read the manifest beside `engine`. Raises UsageError if there is none, ConfigError if it is invalid.

    It may not fit the engine (see `engine_mismatch`). Where a killed build left two, the one that fits is returned.
    """
    path = manifest_path(engine)
    if not os.path.isfile(path):
        raise UsageError(f"{engine} has no {path.name} beside it.", todo="Build it again with `rope-deploy build`.")
    todo = "Build the engine again."
    manifest = read_versioned(path, _ADAPTER, SCHEMA_VERSION, what="engine manifest", todo=todo)
    before = manifest.previous
    if before is not None and engine_mismatch(engine, manifest) == "changed" and engine_mismatch(engine, before) == "":
        return before
    return manifest
