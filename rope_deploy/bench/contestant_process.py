"""What one contestant needs by itself: memory, and how much of its time the rotation takes.

Both are measured in a process of its own. Memory of several models in one process cannot be told apart, and a
profiler slows down what it watches. A process that dies takes nothing with it but its own figures.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass, field

from rope_deploy.childprocess import ask, how_ended

WORKER = "rope_deploy.bench.contestant_worker"


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
    try:
        done = ask(worker, job.to_json(), patience)
    except subprocess.TimeoutExpired:
        return Alone(note=f"Not measured: it took more than {patience:.0f} seconds.")
    if done.returncode == 0:
        return Alone(**json.loads(done.stdout.splitlines()[-1]))
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
    return Alone(note=f"Not measured: its process ended {how_ended(done.returncode)} ({last[:200]}).")
