"""What one contestant needs by itself: memory, and how much of its time the rotation takes.

Both are measured in a process of its own. Memory of several models in one process cannot be told apart, and a
profiler slows down what it watches. A process that dies takes nothing with it but its own figures.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import rope_deploy

WORKER = "rope_deploy.bench.worker"


@dataclass(frozen=True)
class Job:
    """What the process is to run. `folder` is the artifact, `source` the PyTorch model where one is needed."""

    runtime: str
    folder: str
    prompts: tuple[int, ...]
    new: int
    threads: int | None = None
    source: str = ""
    dtype: str = "float32"
    trust_remote_code: bool = False
    engine: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        read = json.loads(text)
        return cls(**{**read, "prompts": tuple(read["prompts"])})


@dataclass(frozen=True)
class Alone:
    """What was found; see `ContestantRecord`. `shares`: by workload, the rotation's part of the time. `note`: what
    could not be measured, and why."""

    peak_bytes: int | None = None
    resident_bytes: int | None = None
    before_bytes: int | None = None
    arena_bytes: int | None = None
    shares: dict[str, float | None] = field(default_factory=dict)
    note: str = ""


def run_alone(job: Job, *, worker: str = WORKER, patience: float = 1800) -> Alone:
    """Run `job` in a child process, for at most `patience` seconds. Never raises for what happens to it there."""
    command = [sys.executable, "-W", "ignore", "-m", worker]
    try:
        done = subprocess.run(
            command, input=job.to_json(), capture_output=True, text=True, errors="replace",
            env=_environment(), timeout=patience,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Alone(note=f"Not measured: it took more than {patience:.0f} seconds.")
    if done.returncode == 0:
        return Alone(**json.loads(done.stdout.splitlines()[-1]))
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
    return Alone(note=f"Not measured: its process ended {_how(done.returncode)} ({last[:200]}).")


def _environment() -> dict[str, str]:
    """Ours, and the way to this package wherever it was imported from."""
    root = str(Path(rope_deploy.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    return f"by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"by signal {-code}"
