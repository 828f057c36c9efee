"""`FILE.engine.json`: what an engine was built from, for which GPUs and shapes, and with what.

An engine cannot be opened on a machine without the GPU it is for; this file can be read anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rope_deploy.artifact import FileInfo, TensorInfo
from rope_deploy.errors import ConfigError, UsageError
from rope_deploy.report.records import EngineRecord
from rope_deploy.trt.profiles import Profile

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class EngineManifest:
    """`profiles` are in the engine's order. `files`: graph and weights by name; `engine`: the engine file itself.

    `style` is empty when the graph was not exported by rope-deploy. `warnings` are the vendor's, each once. `taps`:
    values inside the graph that the engine also returns. `chosen`: why it is this style, where that was not asked for.
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
    engine = Path(engine)
    return engine.with_name(engine.name + ".json")


def load_engine_manifest(engine: Path) -> EngineManifest:
    """The manifest beside `engine`; UsageError if there is none, ConfigError if it is invalid."""
    path = manifest_path(engine)
    if not path.is_file():
        raise UsageError(f"{engine} has no {path.name} beside it.", todo="Build it again with `rope-deploy build`.")
    try:
        manifest = _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} is not a valid engine manifest:", faults, todo="Build the engine again.") from None
    if manifest.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            f"{path} has schema version {manifest.schema_version}.",
            exists=f"This rope-deploy reads version {SCHEMA_VERSION}.",
            todo="Build the engine again.",
        )
    return manifest
