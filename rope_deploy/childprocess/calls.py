"""One call of one of our functions in a child, and what becomes of it: a value, an error of its own, or a death."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rope_deploy.childprocess.child import LAST_LINES, Child, ChildDied, grace
from rope_deploy.childprocess.limits import WITHOUT_LIMITS, Limits
from rope_deploy.childprocess.wire_messages import Task
from rope_deploy.errors import EnvironmentMissing, RuntimeCrashed, VendorError

UNLIMITED = "ROPE_DEPLOY_UNLIMITED"  # an environment variable: set to 1, it lifts the limits of `call`
LIFT = f"If the file is one you trust, set {UNLIMITED}=1 and try again."
_here = False  # see `staying_here`


def call(
    function: str,
    *arguments: Any,
    doing: str,
    limits: Limits | None = None,
    progress: Callable[[str], None] | None = None,
    **keywords: Any,
) -> Any:
    """What `function` returns for picklable arguments, called in a child; with `progress` it is given that keyword.

    `doing` says what is being done, e.g. "Reading model.onnx"; the last step that `progress` was given replaces it.
    When this call ends, however it ends, the child has ended too.

    Raises what the function raises; RuntimeCrashed if the child died; VendorError and EnvironmentMissing if it took
    more time and memory than `limits`.
    """
    chosen = WITHOUT_LIMITS if os.environ.get(UNLIMITED) == "1" else (limits or Limits())
    task = Task(function, arguments, keywords, chosen, reports=progress is not None, unwinds=True)
    if _here:
        return task.run(progress)
    step = doing

    def on_progress(text: str) -> None:
        nonlocal step
        step = text
        progress(text)

    try:
        return run_in_child(task, on_progress)
    except ChildDied as death:
        raise _crash(death, step, chosen) from None
    except MemoryError as error:
        raise _memory(chosen) from error


def run_in_child(
    task: Task,
    progress: Callable[[Any], None] | None = None,
    *,
    variables: dict[str, str] | None = None,
    patience: float | None = None,
    lines: int = LAST_LINES,
) -> Any:
    """What the function of `task` returns; `progress` gets what it reports. For callers that word a death themselves.

    `variables` are added to the child's environment. When this call ends, however it ends, the child has ended too.

    Raises what the function raises; ChildDied with the last `lines` of standard error; ChildTimedOut after `patience`
    seconds.
    """
    child = Child(task, variables, patience, lines)
    try:
        while True:
            kind, value = child.receive()
            if kind == "result":
                return value
            if kind == "error":
                raise value
            if progress is not None:
                progress(value)
    finally:
        child.end(grace())


@contextmanager
def staying_here() -> Iterator[None]:
    """Inside the block `call` calls its function in this process, without limits: for many calls on one's own files."""
    global _here
    before, _here = _here, True
    try:
        yield
    finally:
        _here = before


def _crash(death: ChildDied, doing: str, limits: Limits) -> Exception:
    if death.code == -signal.SIGXCPU:
        return VendorError(f"{doing} took more than {limits.seconds} seconds of processor time.", todo=LIFT)
    if death.was_killed:
        return EnvironmentMissing(f"{doing}: the system ended it, as it does when memory runs out.", todo=LIFT)
    return RuntimeCrashed(
        f"{doing} {death}: a library crashed on this file.",
        exists=f"Its last words:\n{death.last_words}" if death.lines else "",
        todo="The file is damaged, or was made to do this. Make it again, or copy it again.",
    )


def _memory(limits: Limits) -> EnvironmentMissing:
    allowed = f": {limits.bytes / 1e9:.1f} GB were allowed" if limits.bytes is not None else ""
    return EnvironmentMissing(f"Memory ran out{allowed}.", todo=LIFT if allowed else "Use a machine with more memory.")
