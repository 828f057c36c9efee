"""Errors as verdicts: a refusal has a reason for the user, everything else is a crash."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.families.record import Verdict
from rope_deploy.errors import EnvironmentMissing, RopeDeployError


class Stop(Exception):
    """The verdict is clear; `where` is what `innermost` says of the error behind it."""

    def __init__(self, verdict: Verdict, reason: str, where: str = ""):
        super().__init__(reason)
        self.verdict, self.reason, self.where = verdict, reason, where


def guarded(action: Callable[[], Any]) -> Any:
    """What `action` returns; its errors as Stop."""
    try:
        return action()
    except EnvironmentMissing as error:
        raise Stop("needs-package", error.asked) from error
    except RopeDeployError as error:
        raise Stop("refused", " ".join(str(error).split()), innermost(error)) from error
    except Exception as error:  # a refusal has a reason; this is none
        raise Stop("crash", first_line(error), innermost(error)) from error


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else '(no message)'}"


def innermost(error: BaseException) -> str:
    """Where it was raised first: file:line of the deepest frame, and of the deepest one in rope_deploy."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "rope_deploy" in frame.filename]
    shown = [*ours[-1:], *frames[-1:]] if ours and frames[-1:] != ours[-1:] else frames[-1:]
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(shown))


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])
