"""What the two processes of a build say to each other: one job down, JSON lines back.

Lines from the worker, one object each:
    {"event": "progress", "phase", "done", "steps", "depth"}    a step of the builder
    {"event": "log", "level": "warning" | "error", "text"}      what the vendor's library said
    {"event": "finished", "version", "seconds"}                 the engine is in `output`
    {"event": "failed", "kind", "text", "details", "nodes"}     it is not; `kind` is a Kind, `nodes` those refused
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from rope_deploy.errors import RefusedNode

Kind = Literal["import", "capability", "plugin", "parse", "profile", "build", "memory", "disk"]


@dataclass(frozen=True)
class Job:
    """`profiles`: by profile and input name the (min, opt, max) shapes. Paths are absolute.

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

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Job:
        document = json.loads(text)
        for field in ("profiles", "capabilities", "taps"):
            document[field] = tuple(document[field])
        return Job(**document)


@dataclass(frozen=True)
class Progress:
    """`phase` has done `done` of `steps` steps (0: unknown). `depth` 0 is the outermost phase."""

    phase: str
    done: int = 0
    steps: int = 0
    depth: int = 0


class WorkerError(Exception):
    """The worker could not build. `details` are single findings in words, `nodes` those of the graph at fault."""

    def __init__(self, kind: Kind, text: str, details: tuple[str, ...] = (), nodes: tuple[RefusedNode, ...] = ()):
        super().__init__(text)
        self.kind, self.text, self.details, self.nodes = kind, text, tuple(details), tuple(nodes)
