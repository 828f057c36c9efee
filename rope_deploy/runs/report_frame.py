"""What every report states besides its results: when, where, with which versions."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rope_deploy import __version__
from rope_deploy.package_versions import package_versions
from rope_deploy.results.records import Kind, Report
from rope_deploy.runtime_registry import RUNTIMES

# Packages whose version can change a result: what models and graphs are read with, what the runtimes need, and
# another build of one of these.
_BASE = ("torch", "transformers", "onnx", "onnxruntime-gpu")
RECORDED = tuple(dict.fromkeys([*_BASE, *(name for kind in RUNTIMES.values() for name in kind.packages)]))


@dataclass(frozen=True)
class Frame:
    """The title, the source and the start of a run; `report` adds the results."""

    title: str
    source: str
    kind: Kind
    began: float = field(default_factory=time.perf_counter)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def report(self, **results) -> Report:
        """A report with `results` (exports, checks, latencies …) and the time since the frame was made."""
        return Report(
            title=self.title,
            source=self.source,
            kind=self.kind,
            created=self.created,
            machine=machine(),
            versions=versions(),
            seconds=time.perf_counter() - self.began,
            **results,
        )


def machine() -> str:
    """E.g. "Linux x86_64, Intel Xeon, 2 cores"."""
    return f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Of this package, of Python, and of what is installed of RECORDED."""
    return {"rope_deploy": __version__, "python": platform.python_version(), **package_versions(RECORDED)}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    except OSError:
        names = []  # no such file outside Linux: `platform` names the processor instead
    return names[0] if names else platform.processor() or "unknown processor"
