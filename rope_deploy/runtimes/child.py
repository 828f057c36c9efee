"""The process that holds a runtime: `python -m rope_deploy.runtimes.child` opens one and answers calls.

A vendor's library that crashes or runs out of memory takes this process with it, and not the run that asked.
Messages are those of `wire`. Down: first {"opener", "arguments"}, then {"taps"} with the arrays of each call. Up:
{"event": "opened", "taps"}, {"event": "answer"} with arrays, or {"event": "error", "kind", "asked", "exists",
"todo", "faults"}, `kind` being a class of `rope_deploy.errors` or the name of another exception.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rope_deploy.artifact import load_manifest
from rope_deploy.errors import RopeDeployError
from rope_deploy.runtimes.protocol import Runtime
from rope_deploy.runtimes.wire import receive, send


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody is left to answer
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    try:
        job, _ = receive(asked)
        module, function = job["opener"].split(":")
        with getattr(importlib.import_module(module), function)(**job["arguments"]) as runtime:
            send(answers, {"event": "opened", "taps": runtime.taps, "unguarded": hasattr(runtime, "unguarded")})
            while True:
                _answer(runtime, asked, answers)
    except EOFError:
        return 0  # the parent has what it wanted
    except Exception as error:  # the runtime did not open
        send(answers, _described(error))
        return 1


def _answer(runtime: Runtime, asked: Any, answers: Any) -> None:
    call, feeds = receive(asked)
    try:
        found = runtime.unguarded(feeds) if call["verb"] == "unguarded" else runtime.run(feeds, taps=call["taps"])
    except Exception as error:  # whatever it was, the next call may do better
        send(answers, _described(error))
    else:
        send(answers, {"event": "answer"}, found)


def _described(error: Exception) -> dict[str, Any]:
    """An exception as fields: those of ours whole, any other by its name and text."""
    if not isinstance(error, RopeDeployError):
        return {"event": "error", "kind": type(error).__name__, "asked": str(error)}
    faults = list(getattr(error, "faults", ()))
    parts = {"asked": error.asked, "exists": error.exists, "todo": error.todo, "faults": faults}
    return {"event": "error", "kind": type(error).__name__, **parts}


def open_artifact(folder: str, verify: bool, taps: bool = True) -> Runtime:
    from rope_deploy.runtimes.onnx_runtime import open_ort

    return open_ort(Path(folder), taps=taps, verify=verify)


def open_engine(engine: str, folder: str) -> Runtime:
    from rope_deploy.runtimes.trt_engine import open_trt

    return open_trt(Path(engine), load_manifest(Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
