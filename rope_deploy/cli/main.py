"""The entry point: it finds the command, runs it, and makes a message and an exit code of every failure.

Commands are loaded when they are named, so `rope-deploy --help` costs no more than click itself.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import click

from rope_deploy import __version__
from rope_deploy.cli.common import stdout_for_json
from rope_deploy.cli.error_messages import describe, show
from rope_deploy.cli.quiet_libraries import quiet_libraries
from rope_deploy.cli.thread_settings import wait_without_spinning

TRACEBACK_FLAG = "--traceback"
TRACEBACK_VARIABLE = "ROPE_DEPLOY_TRACEBACK"


class Entry(NamedTuple):
    """Where a command is defined, as "module:attribute", and its line in the list of commands."""

    target: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "inspect": Entry("rope_deploy.cli.inspect:inspect", "Show which rotations a model, graph or engine holds."),
    "export": Entry("rope_deploy.cli.export:export", "Turn a model into an ONNX artifact in one of four styles."),
    "rewrite": Entry("rope_deploy.cli.rewrite:rewrite", "Bring the rotations of an existing ONNX file to a style."),
    "build": Entry("rope_deploy.cli.build:build", "Compile an artifact or ONNX file into a TensorRT engine."),
    "plugin": Entry("rope_deploy.cli.plugin:plugin", "Compile the TensorRT plugin, or show what one holds."),
    "check": Entry("rope_deploy.cli.check:check", "Compare an artifact with PyTorch, case by case."),
    "bench": Entry("rope_deploy.cli.bench:bench", "Time prefill and decode, runtime by runtime."),
    "ci": Entry("rope_deploy.cli.ci:ci", "Export, build, check, bench and report: the gate for CI."),
    "doctor": Entry("rope_deploy.cli.doctor:doctor", "Say what is installed, what works and what is missing."),
}


class LazyGroup(click.Group):
    """A group whose commands live in `COMMANDS` and are imported only when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, attribute = COMMANDS[cmd_name].target.split(":")
            return getattr(importlib.import_module(module), attribute)
        if cmd_name.startswith("-"):
            return None
        raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rope-deploy", message="%(prog)s %(version)s")
@click.option(TRACEBACK_FLAG, is_flag=True, help="Show the Python traceback of a failure. Accepted anywhere.")
def group(traceback: bool) -> None:
    """Take rotary position embeddings from PyTorch to ONNX Runtime and TensorRT, and prove they survived.

    Every command takes --json, which prints one JSON document and nothing else on standard output.

    \b
    Exit codes: 0 fine, 1 a check or gate failed, 2 wrong usage or configuration,
    3 something is missing in the environment, 4 a vendor's tool failed,
    5 a fault of rope-deploy itself.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Never raises, whatever the command does."""
    quiet_libraries()
    wait_without_spinning()
    own, separator, rest = _partition(list(sys.argv[1:] if arguments is None else arguments))
    traceback = TRACEBACK_FLAG in own or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
    given = [argument for argument in own if argument != TRACEBACK_FLAG] + separator + rest
    as_json = "--json" in own
    document = None
    try:
        with _terminable(), stdout_for_json() if as_json else nullcontext() as document:
            code = _invoke(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _abandon_stdout()
        return 128 + signal.SIGPIPE
    except BaseException as error:
        unanswered = as_json and not (document and document.written)
        return show(describe(error), error, as_json=unanswered, traceback=traceback)


def _invoke(arguments: list[str]) -> int:
    """Run one command and return the code given to `ctx.exit`, else 0."""
    try:
        with group.make_context("rope-deploy", arguments) as context:
            group.invoke(context)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    return 0


def _partition(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split at the first "--", behind which nothing is an option."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at : at + 1], arguments[at + 1 :]


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that a cancelled CI job removes its temporary files."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: signals belong to somebody else
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _abandon_stdout() -> None:
    """Point stdout at nothing once its reader is gone: the interpreter would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
