"""Runtimes that really die: opened in a child process by tests of the isolation."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from rope_deploy.errors import ConfigError, PositionOutOfRange
from rope_deploy.runtimes import open_ort


class Deadly:
    """An artifact in ONNX Runtime that does `how` when a call has three rows."""

    name, taps = "deadly", True

    def __init__(self, runtime, how):
        self._runtime, self._how = runtime, how

    def run(self, feeds, taps=False):
        if len(feeds["input_ids"]) == 3:
            perish(self._how)
        return self._runtime.run(feeds, taps)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def perish(how: str) -> None:
    print("so this is how it ends", file=sys.stderr, flush=True)
    match how:
        case "raise":
            raise ZeroDivisionError("by nothing")
        case "refuse":
            raise PositionOutOfRange("Too far.", exists="Near.", todo="Stay.")
        case "faults":
            raise ConfigError("Wrong:", ["one", "two"], todo="Mend.")
        case "exit":
            os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))


def open_deadly(folder: str, how: str) -> Deadly:
    return Deadly(open_ort(Path(folder), threads=1, taps=True), how)


def open_dead(how: str) -> None:
    perish(how)


def open_sleeping(path: str, seconds: int) -> None:
    """Never opens, as a runtime that compiles for ever; ended by its own limit, as `plain.open_plain` sets it."""
    signal.alarm(seconds)
    time.sleep(60)
