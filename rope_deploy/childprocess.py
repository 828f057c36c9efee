"""Work in a process of its own: how a child is started, what it may take, and how it ended.

Every child of this package is started here, with `-P`: a module that lies in the working directory is never imported.
`call` runs one of our own functions in such a child. A library that crashes on a file takes the child with it, and
the caller gets an error that names the file.

    down: one pickled Task     up: pickled ("step", text), then ("result", value) or ("error", exception)

Both ends are this module, and nothing else writes to the pipe: what is unpickled was pickled by us.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rope_deploy
from rope_deploy.errors import EnvironmentMissing, RuntimeCrashed, VendorError

MODULE = "rope_deploy.childprocess"
LAST_LINES = 8
UNLIMITED = "ROPE_DEPLOY_UNLIMITED"  # an environment variable: set to 1, it lifts the limits of `call`
LIFT = f"If the file is one you trust, set {UNLIMITED}=1 and try again."
# What reading a graph may take, weights aside: audits of real files take seconds and some hundred megabytes.
SECONDS, BYTES = 50, 3 << 30
BYTES_A_SECOND = 4 << 20  # of a file that is read whole and written again
COPIES = 4  # of a file's tensors that may be in memory at once
_here = False  # see `staying_here`


def python(*arguments: str) -> list[str]:
    """The command line of a child that runs Python: `python("-m", module)`."""
    return [sys.executable, "-P", "-W", "ignore", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Ours and `more`, with the way to this package wherever it was imported from.

    An empty entry of PYTHONPATH means the working directory to Python, so such entries are left out.
    """
    root = str(Path(rope_deploy.__file__).parent.parent)
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def scripts() -> Path:
    """Where the programs of this Python lie, also of an environment that was not activated."""
    return Path(sys.executable).parent


def how_ended(code: int) -> str:
    """A process's return code in words: "with exit code 3", "by SIGSEGV"."""
    if code >= 0:
        return f"with exit code {code}"
    return f"by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"by signal {-code}"


def ask(module: str, question: str, patience: float) -> subprocess.CompletedProcess[str]:
    """Run a module of ours with `question` on standard input. Raises subprocess.TimeoutExpired after `patience` s."""
    return subprocess.run(
        python("-m", module), input=question, capture_output=True, text=True, errors="replace", env=environment(),
        timeout=patience,
    )  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """`seconds` of processor time, and `bytes` of memory that is not a mapped file; None is no limit."""

    seconds: int | None = SECONDS
    bytes: int | None = BYTES

    @classmethod
    def of_file(cls, path: Path) -> Limits:
        """What work on the ONNX file or artifact at `path` may take: it grows with all that lies beside it."""
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        size = 0
        with suppress(OSError):
            size = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
        return cls(SECONDS + size // BYTES_A_SECOND, BYTES + COPIES * size)


WITHOUT_LIMITS = Limits(None, None)


@dataclass(frozen=True)
class Task:
    """`function` is "package.module:name" of a function of ours; `limits` are set before it is imported."""

    function: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()


def call(
    function: str,
    *arguments: Any,
    doing: str,
    limits: Limits | None = None,
    progress: Callable[[str], None] | None = None,
    **keywords: Any,
) -> Any:
    """What `function` returns for picklable arguments, called in a child; with `progress` it is given that keyword.

    `doing` says what is being done, e.g. "Reading model.onnx"; the last step that `progress` heard of takes its place.
    When this call ends, however it ends, the child has ended too.

    Raises what the function raises; RuntimeCrashed if the child died; VendorError and EnvironmentMissing if it took
    more time and memory than `limits`.
    """
    if _here:
        module, name = function.split(":")
        given = keywords if progress is None else {**keywords, "progress": progress}
        return getattr(importlib.import_module(module), name)(*arguments, **given)
    chosen = WITHOUT_LIMITS if os.environ.get(UNLIMITED) == "1" else (limits or Limits())
    heard: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        python("-m", MODULE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    listener = threading.Thread(target=_listen, args=(process.stderr, heard), daemon=True)
    listener.start()
    task = Task(function, arguments, {**keywords, **({"progress": None} if progress else {})}, chosen)
    try:
        with suppress(BrokenPipeError):  # it died at once; how is told below
            pickle.dump(task, process.stdin)
            process.stdin.close()
        for kind, value in _messages(process):
            if kind == "step":
                doing = value
                progress(value)
            elif kind == "error":
                raise value
            else:
                return value
    finally:
        _end(process)
        listener.join()
    raise _crash(process.returncode, doing, list(heard), chosen)


@contextmanager
def staying_here() -> Iterator[None]:
    """Inside the block `call` calls its function in this process, without limits: for many calls on one's own files."""
    global _here
    before, _here = _here, True
    try:
        yield
    finally:
        _here = before


def _messages(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, Any]]:
    """What the child says, until it says no more."""
    while True:
        try:
            yield pickle.load(process.stdout)
        except (EOFError, pickle.UnpicklingError):
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    """The child ends: by itself if it is done, else by SIGTERM, after which it removes what it had begun to write."""
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(timeout=1 if sys.exc_info()[0] is None else 0.05)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listen(stream: Any, heard: deque[str]) -> None:
    for line in stream:
        if line.strip():
            heard.append(line.decode(errors="replace").rstrip())
    stream.close()


def _crash(code: int, doing: str, heard: list[str], limits: Limits) -> Exception:
    if code == -signal.SIGXCPU:
        return VendorError(f"{doing} took more than {limits.seconds} seconds of processor time.", todo=LIFT)
    if code == -signal.SIGKILL:
        return EnvironmentMissing(f"{doing}: the system ended it, as it does when memory runs out.", todo=LIFT)
    last = "\n".join(f"  {line}" for line in heard)
    return RuntimeCrashed(
        f"{doing} ended {how_ended(code)}: a library crashed on this file.",
        exists=f"Its last words:\n{last}" if last else "",
        todo="The file is damaged, or was made to do this. Make it again, or copy it again.",
    )


def main() -> None:
    """The child: read one task, run it, and say what came of it. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # unwinds: nothing is left half-written
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: nobody is left to answer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to standard error

    def say(kind: str, value: Any) -> None:
        answers.write(pickle.dumps((kind, value)))
        answers.flush()

    try:
        task: Task = pickle.load(sys.stdin.buffer)
        _limit(task.limits)
        module, name = task.function.split(":")
        keywords = dict(task.keywords)
        if "progress" in keywords:
            keywords["progress"] = lambda text: say("step", text)
        say("result", getattr(importlib.import_module(module), name)(*task.arguments, **keywords))
    except MemoryError:
        say("error", _memory(task.limits))
    except Exception as error:
        say("error", _portable(error))
    sys.stderr.flush()
    os._exit(0)  # all is said; taking libraries down again would cost a tenth of a second


def _memory(limits: Limits) -> EnvironmentMissing:
    allowed = f": {limits.bytes / 1e9:.1f} GB were allowed" if limits.bytes is not None else ""
    return EnvironmentMissing(f"Memory ran out{allowed}.", todo=LIFT if allowed else "Use a machine with more memory.")


def _limit(limits: Limits) -> None:
    """Soft limits alone: a runtime that this child starts for itself may set its own."""
    for kind, most in ((resource.RLIMIT_CPU, limits.seconds), (resource.RLIMIT_DATA, limits.bytes)):
        hard = resource.getrlimit(kind)[1]
        if most is not None:
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _portable(error: Exception) -> Exception:
    """`error` as it can be pickled and raised elsewhere, with what `--traceback` shows as a note."""
    note = "".join(traceback.format_exception(error)).rstrip()
    error.__cause__ = error.__context__ = None
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # a class of a library that cannot be made from its own arguments
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In a process of its own:\n{note}")
    return error


if __name__ == "__main__":
    # As the module that callers import: what is pickled must be of one and the same class on both ends.
    importlib.import_module(MODULE).main()
