"""The request to a vendor's builder, its progress and its result, as they pass between two processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineRequest:
    """What to build. `profiles`: for each profile, by input name, the (min, opt, max) shapes. Paths are absolute.

    `timing_cache` is read if it is there, `new_cache` is where the one with this build's measurements is written.
    `taps` are values inside the graph that become outputs of the engine.
    """

    flavor: str
    model: str
    output: str
    profiles: tuple[dict[str, tuple[tuple[int, ...], ...]], ...]
    capabilities: tuple[str, ...] = ()
    plugin: str | None = None
    timing_cache: str | None = None
    new_cache: str | None = None
    taps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """A phase of a build has done `done` of `steps` steps (0: unknown). `depth` 0 is the outermost phase."""

    phase: str
    done: int = 0
    steps: int = 0
    depth: int = 0


@dataclass(frozen=True)
class BuildResult:
    """What a build reports. `version` is the vendor library's, `seconds` pass from loading it to the engine on disk,
    `warnings` are what it logged as a warning or an error, each once."""

    version: str
    seconds: float
    warnings: tuple[str, ...]
