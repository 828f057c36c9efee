"""Turn any exception into the message for the terminal, or the JSON document, and the exit code."""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import asdict, dataclass

import click

from rope_deploy.cli.console import echo, echo_json
from rope_deploy.errors import ConfigError, InternalFault, RopeDeployError

# How native allocators say that memory ran out; they raise RuntimeError or worse instead of MemoryError.
_OUT_OF_MEMORY = ("can't allocate memory", "std::bad_alloc", "bad allocation", "CUDA out of memory")


@dataclass(frozen=True)
class Failure:
    """A failure for people to read: what was asked, each fault, what exists, what to do, and the exit code."""

    kind: str
    exit_code: int
    asked: str
    faults: tuple[str, ...] = ()
    exists: str = ""
    todo: str = ""


def describe(error: BaseException) -> Failure:
    """Describe any exception: its message and its exit code."""
    kind = type(error).__name__
    if isinstance(error, RopeDeployError):
        faults = error.faults if isinstance(error, ConfigError) else ()
        return Failure(kind, error.exit_code, error.asked, faults, error.exists, error.todo)
    if isinstance(error, click.ClickException):
        return Failure(kind, 2, error.format_message(), todo=_help_hint(error))
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Failure("Interrupted", 130, "Interrupted. Nothing was left half-written.")
    if isinstance(error, SystemExit):
        return Failure("Terminated", _exit_status(error), "Terminated. Nothing was left half-written.")
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] != "rope_deploy":
        return Failure(
            kind,
            3,
            f"The Python package {error.name.split('.')[0]} is not installed here.",
            todo="Install rope-deploy again (`pip install rope-deploy`); `rope-deploy doctor` lists what it needs.",
        )
    if _is_out_of_memory(error):
        return Failure(
            "OutOfMemory",
            3,
            "Memory ran out.",
            todo="Use a machine with more memory, a smaller model, or a shorter --max-position.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("DiskFull", 3, f"The disk is full{_where(error)}.", todo="Free some space and try again.")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return Failure(kind, 2, f"A name is too long for the system: {error.filename}.", todo="Give a shorter one.")
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        reason = (error.strerror or "not permitted").lower()
        return Failure(kind, 3, f"The system refused access{_where(error)}: {reason}.")
    fault = InternalFault.of(kind, str(error))
    return Failure(kind, fault.exit_code, fault.asked, todo=fault.todo)


def show(failure: Failure, error: BaseException, *, as_json: bool, traceback: bool) -> int:
    """Write the failure to stderr, as JSON also to stdout, and return the exit code.

    A stream that is gone or full must not hide the exit code, so trouble while writing is dropped.
    """
    try:
        if traceback:
            _show_traceback(error)
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
        else:
            _show_text(failure)
        if as_json:
            echo_json(json.dumps({"error": asdict(failure)}, indent=2))
    except (OSError, ValueError):
        pass
    return failure.exit_code


def _show_text(failure: Failure) -> None:
    listed = [f"  - {fault}" for fault in failure.faults]
    below = [part for part in (*listed, failure.exists, failure.todo) if part]
    if not sys.stderr.isatty():
        echo("\n".join([f"Error: {failure.asked}", *below]), err=True)
        return
    from rich.console import Console
    from rich.text import Text

    from rope_deploy.results.wording import clean

    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("Error: ", "bold red"), (clean(failure.asked), "bold")))
    for part in below:
        console.print(Text(clean(part), style="" if part == failure.todo else "dim"))


def _show_traceback(error: BaseException) -> None:
    import traceback

    echo("".join(traceback.format_exception(error)), err=True)


def _help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"`{context.command_path} --help` shows what it accepts." if context is not None else ""


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def _where(error: OSError) -> str:
    return f" at {error.filename}" if error.filename else ""


def _exit_status(error: SystemExit) -> int:
    return error.code if isinstance(error.code, int) else 1
