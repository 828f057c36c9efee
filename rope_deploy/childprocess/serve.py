"""The child's side: read one task, run it, answer; with an object that stays open, answer requests until the end."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

from rope_deploy.childprocess.wire_messages import Request, Task, receive, send

PR_SET_PDEATHSIG = 1


def main(parent: int) -> NoReturn:
    """Serve process `parent` at the other ends of standard input and output, until it has what it wanted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before the signal was asked for
        os._exit(1)
    requests, answers = _channel()
    with suppress(EOFError):  # the parent has what it wanted
        _serve(receive(requests), requests, answers)
    sys.stderr.flush()
    os._exit(0)  # all is answered; taking libraries down again would cost a tenth of a second


def _channel() -> tuple[BinaryIO, BinaryIO]:
    """The pipes, unbuffered, at descriptors that no library knows of: what it prints goes to standard error."""
    pipes = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return pipes


def _serve(task: Task, requests: BinaryIO, answers: BinaryIO) -> None:
    if task.unwinds:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    leave = sys.exit if task.unwinds else os._exit

    def say(kind: str, value: Any) -> None:
        try:
            send(answers, (kind, value))
        except BrokenPipeError:  # the parent is gone
            leave(1)

    def progress(value: Any) -> None:
        say("progress", value)

    def begin() -> Any:
        task.limits.apply()
        return task.run(progress)

    if not task.keeps:
        _answer(begin, say)
        return
    try:
        manager = begin()
        opened = manager.__enter__()
    except Exception as error:
        say("error", portable(error))
        return
    say("result", None)
    while True:
        request: Request = receive(requests)
        _answer(lambda: request.of(opened), say)  # noqa: B023


def _answer(work: Callable[[], Any], say: Callable[[str, Any], None]) -> None:
    """Say what `work` returns or raises, also if what it returns cannot be pickled."""
    try:
        say("result", work())
    except Exception as error:
        say("error", portable(error))


def portable(error: Exception) -> Exception:
    """`error` as it can be pickled and raised elsewhere, with what `--traceback` shows as a note."""
    if isinstance(error, MemoryError):
        return MemoryError()
    note = "".join(traceback.format_exception(error)).rstrip()
    error.__cause__ = error.__context__ = None
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # a class of a library that cannot be made from its own arguments: its name and text stay
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In a process of its own:\n{note}")
    return error
