"""How a Python of ours is started: its command line and its environment."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import rope_deploy


def python(*arguments: str) -> list[str]:
    """The command line of a child that runs Python: `python("-m", module)`.

    With `-P` a module that lies in the working directory is never imported.
    """
    return [sys.executable, "-P", "-W", "ignore", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's environment variables and `more`; PYTHONPATH leads to this package, wherever it lies.

    An empty entry of PYTHONPATH means the working directory to Python, so such entries are left out.
    """
    root = str(Path(rope_deploy.__file__).parent.parent)
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def scripts() -> Path:
    """The folder with the programs of this Python, also of an environment that was not activated."""
    return Path(sys.executable).parent


def how_ended(code: int) -> str:
    """A process's return code as text: "with exit code 3", "by SIGSEGV"."""
    if code >= 0:
        return f"with exit code {code}"
    return f"by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"by signal {-code}"
