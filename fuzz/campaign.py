"""Many cases: shared among workers, written down as they end, taken up where an earlier campaign stopped.

Every case is a line in FOLDER/SEED.jsonl. Failures are made small, edit by edit, and written as recipes to
FOLDER/failures/, one for each signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.seeds import made_seeds

ROOT = Path(__file__).parent.parent


class Worker:
    """One process that answers jobs, one at a time."""

    def __init__(self, seeds: Path, scratch: Path):
        scratch.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with (scratch / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "fuzz.worker", str(seeds), str(scratch)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(job), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("A worker of the fuzzer has ended: see `stderr` in its scratch folder.")
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Campaign:
    """`cases` or `minutes` ends it, whichever comes first."""

    folder: Path
    seed: int = 0
    cases: int = 1000
    minutes: float | None = None
    jobs: int = 2
    only: tuple[str, ...] = ()
    say: Callable[[str], None] = print
    codes: Counter[int] = field(default_factory=Counter)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self) -> dict[str, dict[str, Any]]:
        """Signature → the smallest recipe found, what it printed and how often it came up; {} if all is well."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seeds = made_seeds(self.folder)
        self._log = self.folder / f"{self.seed}.jsonl"
        done = self._earlier()
        numbers = iter([number for number in range(self.cases) if number not in done])
        self._began, self._lock = time.monotonic(), threading.Lock()
        threads = [threading.Thread(target=self._work, args=(numbers, one)) for one in range(self.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.failures

    def _earlier(self) -> set[int]:
        if not self._log.exists():
            return set()
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]
        for line in lines:
            self._count(line["number"], line)
        return {line["number"] for line in lines}

    def _count(self, number: int, result: dict[str, Any]) -> list[str]:
        """Keep a result; returns the signatures seen for the first time."""
        self.codes[result["code"]] += 1
        fresh = []
        for signature in result["faults"]:
            if signature not in self.failures:
                self.failures[signature] = {**result, "number": number, "count": 0}
                fresh.append(signature)
            self.failures[signature]["count"] += 1
        return fresh

    def _work(self, numbers: Iterator[int], name: int) -> None:
        worker = Worker(self.seeds, self.folder / f"worker-{os.getpid()}-{name}")
        try:
            while (number := self._next(numbers)) is not None:
                result = worker.ask({"seed": self.seed, "number": number, "only": self.only})
                with self._lock:
                    kept = result if result["faults"] else {**result, "case": None}
                    with self._log.open("a") as stream:
                        stream.write(json.dumps({**kept, "number": number}) + "\n")
                    fresh = self._count(number, result)
                    total = sum(self.codes.values())
                for signature in fresh:
                    self.say(f"{number}: {signature}")
                    if result["case"] is not None:
                        self._keep(worker, signature, result)
                if total % 500 == 0:
                    self.say(f"{total} cases, exit codes {dict(sorted(self.codes.items()))}")
        finally:
            worker.close()

    def _next(self, numbers: Iterator[int]) -> int | None:
        with self._lock:
            if self.minutes is not None and time.monotonic() - self._began > 60 * self.minutes:
                return None
            return next(numbers, None)

    def _keep(self, worker: Worker, signature: str, result: dict[str, Any]) -> None:
        small = smallest(result["case"], signature, worker)
        self.failures[signature]["case"] = small
        folder = self.folder / "failures"
        folder.mkdir(exist_ok=True)
        name = hashlib.sha256(signature.encode()).hexdigest()[:10]
        failure = {"signature": signature, "recipe": small, "printed": result["text"][-3000:]}
        (folder / f"{name}.json").write_text(json.dumps(failure, indent=1) + "\n")


def smallest(recipe: dict[str, Any], signature: str, worker: Worker) -> dict[str, Any]:
    """`recipe` without the edits and kills that `signature` does not need."""
    for name in ("edits", "kills"):
        for one in list(recipe.get(name, ())):
            fewer = {**recipe, name: [kept for kept in recipe[name] if kept is not one]}
            if fewer[name] and signature in worker.ask({"recipe": fewer})["faults"]:
                recipe = fewer
    return recipe
