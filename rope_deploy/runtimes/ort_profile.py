"""ONNX Runtime's own profiler says how much of the time in an artifact its rotations take."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from rope_deploy.artifact import MODEL_NAME, Manifest
from rope_deploy.graph.analysis.rotation_nodes import rotating_nodes
from rope_deploy.runtimes.onnx_runtime import CPU, SILENT, cannot_load
from rope_deploy.runtimes.protocol import Arrays

INLINED = "_inlfunc_"  # how ONNX Runtime begins the names of nodes that came out of a function


@dataclass(frozen=True)
class Profile:
    """`shares`: for each group of runs the part of the nodes' time that the rotation took (the median over its runs),
    None where the rotation has no nodes of its own; `arena_bytes`: the most that ONNX Runtime's allocator held, None
    if it does not say; `inside`: rotations that are inside fused operators, of `sites`."""

    shares: dict[str, float | None]
    arena_bytes: int | None
    inside: int
    sites: int


class Profiler:
    """A session that records how long each node takes. It is slower than a plain one: take shares, not times."""

    name, taps = "ort", False

    def __init__(self, folder: Path, manifest: Manifest, *, threads: int | None = None):
        self.manifest = manifest
        self._nodes = rotating_nodes(folder / MODEL_NAME, manifest.sites)
        self._groups: list[str] = []
        self._folder = tempfile.TemporaryDirectory()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        if threads is not None:
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        try:
            self._session = onnxruntime.InferenceSession(str(folder / MODEL_NAME), options, providers=list(CPU))
        except Exception as error:  # its exception classes share no base below Exception
            raise cannot_load(folder / MODEL_NAME, error) from error

    def run(self, feeds: Mapping[str, np.ndarray], group: str = "") -> Arrays:
        """Run once, counted under `group`; "" is a run that is not counted, such as the first."""
        self._groups.append(group)
        names = [info.name for info in self.manifest.outputs]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def finish(self) -> Profile:
        """End the session; returns what it recorded."""
        with self._folder:
            events = json.loads(Path(self._session.end_profiling()).read_text())
        runs = sorted((e for e in events if e["name"] == "model_run"), key=lambda event: event["ts"])
        nodes = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
        shares = _shares(runs, nodes, self._nodes)
        arenas = [int(held) for event in nodes if (held := event["args"].get("mem_arena_held"))]
        return Profile(
            shares={
                group: float(np.median([share for share, its in zip(shares, self._groups) if its == group]))
                if self._nodes
                else None
                for group in filter(None, self._groups)
            },
            arena_bytes=max(arenas, default=None),
            inside=sum(site.output is None for site in self.manifest.sites),
            sites=len(self.manifest.sites),
        )


def _shares(runs: Sequence[dict], nodes: Sequence[dict], rotating: frozenset[tuple[str, str]]) -> list[float]:
    """For each run, the time in rotating nodes as a part of the time in all nodes."""
    ends = np.array([run["ts"] + run["dur"] for run in runs])
    names = {name for name, _ in rotating}
    functions = tuple(f"{INLINED}{operator}_" for _, operator in rotating)
    spent = np.zeros((len(runs), 2))  # microseconds: in rotating nodes, in all
    for event in nodes:
        name = event["name"].removesuffix("_kernel_time")
        ours = name in names or name.startswith(functions)
        spent[min(int(np.searchsorted(ends, event["ts"])), len(runs) - 1)] += event["dur"] * ours, event["dur"]
    return (spent[:, 0] / np.maximum(spent[:, 1], 1)).tolist()
