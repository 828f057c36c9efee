"""The entry point: whatever a command does, the user sees words, the right exit code and no traceback."""

import errno
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import click
import pytest

from rope_deploy.cli import main as entry
from rope_deploy.cli.common import print_json, show_and_write
from rope_deploy.errors import (
    BUG,
    CheckFailed,
    ConfigError,
    EnvironmentMissing,
    InternalFault,
    ModelError,
    PositionOutOfRange,
    UnmatchedRotation,
    UsageError,
    VendorError,
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """`run(action, *words)`: run a command that calls `action`, through the real entry point."""
    module = ModuleType("planted_command")
    monkeypatch.setitem(sys.modules, "planted_command", module)
    monkeypatch.setattr(entry, "COMMANDS", {"planted": entry.Entry("planted_command:command", "Planted.")})
    monkeypatch.setattr(entry, "quiet_libraries", lambda: None)
    monkeypatch.delenv(entry.TRACEBACK_VARIABLE, raising=False)

    def run(action: Callable[[], None], *arguments: str) -> int:
        @click.command("planted")
        @click.option("--json", "as_json", is_flag=True)
        @click.argument("names", nargs=-1)
        def command(as_json: bool, names: tuple[str, ...]) -> None:
            action()

        module.command = command
        return entry.main(["planted", *arguments])

    yield run


def raises(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckFailed("a"), 1),
        (UsageError("a"), 2),
        (ConfigError("a"), 2),
        (ModelError("a"), 2),
        (UnmatchedRotation("a"), 2),
        (PositionOutOfRange("a"), 2),
        (EnvironmentMissing("a"), 3),
        (VendorError("a"), 4),
        (MemoryError(), 3),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 3),
        (OSError(errno.ENOSPC, "No space left on device", "out/model.onnx"), 3),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300), 2),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 3),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 3),
        (ModuleNotFoundError("No module named 'rope_deploy.x'", name="rope_deploy.x"), 5),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 5),
        (EOFError("cut short"), 5),
        (KeyError("layer"), 5),
        (RecursionError("too deep"), 5),
        (InternalFault("a"), 5),
        (click.UsageError("a"), 2),
        (click.FileError("a"), 2),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_failure_has_its_exit_code_and_no_traceback(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    assert run(raises(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert "Traceback" not in captured.err


def test_success_is_zero_and_says_nothing(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_a_command_chooses_its_code_with_exit(run: Callable[..., int]) -> None:
    assert run(lambda: click.get_current_context().exit(1)) == 1


def test_the_three_parts_of_a_message_are_shown(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    run(raises(ConfigError("Two faults.", ["one", "two"], exists="There is x.", todo="Do y.")))
    assert capsys.readouterr().err == "Error: Two faults.\n  - one\n  - two\nThere is x.\nDo y.\n"


def test_json_gets_one_document_on_stdout(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raises(ConfigError("Asked.", ["one"], exists="Exists.", todo="Todo.")), "--json") == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": {
            "kind": "ConfigError",
            "exit_code": 2,
            "asked": "Asked.",
            "faults": ["one"],
            "exists": "Exists.",
            "todo": "Todo.",
        }
    }


def test_what_libraries_print_stays_out_of_the_json_document(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def action() -> None:
        print("a library says hello")
        print_json({"answer": 42})

    assert run(action, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"answer": 42}
    assert captured.err == "a library says hello\n"


def test_without_json_what_is_printed_is_printed(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    run(lambda: print("text"))
    assert capsys.readouterr().out == "text\n"


def test_a_failed_verdict_after_the_document_adds_no_second_one(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def action() -> None:
        print_json('{"verdict": "failed"}\n')
        raise CheckFailed("It differs.")

    assert run(action, "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"verdict": "failed"}
    assert captured.err == "Error: It differs.\n"


def test_json_reports_wrong_usage_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["exprt", "--json"]) == 2
    assert "Did you mean 'export'?" in json.loads(capsys.readouterr().out)["error"]["asked"]


def test_json_behind_the_double_dash_is_not_an_option(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raises(UsageError("a")), "--", "--json", "--traceback") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_an_unexpected_failure_asks_for_a_report(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    run(raises(ZeroDivisionError("division by zero")))
    captured = capsys.readouterr().err
    assert "Unexpected ZeroDivisionError: division by zero" in captured
    assert BUG in captured


def test_a_failure_of_the_user_does_not_ask_for_a_report(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run(raises(UsageError("a")))
    assert BUG not in capsys.readouterr().err


def test_the_traceback_is_shown_when_asked_for(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raises(KeyError("x")), "name", "--traceback") == 5
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_the_traceback_is_shown_when_the_variable_is_set(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(entry.TRACEBACK_VARIABLE, "1")
    run(raises(KeyError("x")))
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_sigterm_unwinds_the_command(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    cleaned = []

    def action() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert run(action) == 128 + signal.SIGTERM
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err.startswith("Error: Terminated.")


def command_line(*arguments: str, **streams: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "rope_deploy", *arguments], stderr=subprocess.PIPE, timeout=60, **streams
    )


def test_a_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = command_line("--help", stdout=writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_an_environment_fault() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    result = command_line("--help", stdout=descriptor)
    os.close(descriptor)
    assert result.returncode == 3
    assert b"The disk is full" in result.stderr
    assert b"Traceback" not in result.stderr


def test_no_arguments_show_the_help_and_are_wrong_usage() -> None:
    result = command_line(stdout=subprocess.DEVNULL)
    assert result.returncode == 2
    assert result.stderr.startswith(b"Usage: ")


def test_version_is_the_package_version() -> None:
    import rope_deploy

    result = command_line("--version", stdout=subprocess.PIPE)
    assert result.stdout.decode() == f"rope-deploy {rope_deploy.__version__}\n"


SHOW_A_REPORT = {"bench", "check"}  # by the one function that also writes report files


def test_the_function_that_shows_a_report_prints_json() -> None:
    assert "print_json(" in inspect.getsource(show_and_write)


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_every_command_loads_takes_json_and_explains_itself(name: str) -> None:
    context = click.Context(entry.group, info_name="rope-deploy")
    command = entry.group.get_command(context, name)
    assert command.name == name
    assert command.help
    for one in command.commands.values() if isinstance(command, click.Group) else (command,):
        assert one.help
        assert "--json" in {option for parameter in one.params for option in parameter.opts}
        printer = "show_and_write(" if name in SHOW_A_REPORT else "print_json("
        assert printer in inspect.getsource(sys.modules[one.callback.__module__])
        assert all(parameter.help for parameter in one.params if isinstance(parameter, click.Option))
