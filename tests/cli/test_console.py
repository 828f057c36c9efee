"""Nothing that a terminal obeys comes out of a command, whoever chose the names in a file."""

import json
import re
from pathlib import Path

import pytest

from rope_deploy.artifact import MANIFEST_NAME
from rope_deploy.cli.console import echo, echo_json, plain
from rope_deploy.cli.main import main
from tests.runtimes.toy import write_toy

PACKAGE = Path(__file__).parents[2] / "rope_deploy"
TITLE = "\x1b]0;PWN\x07\x9b2J\u202eevil"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def printers(folder: Path) -> list[str]:
    """Modules of the command line that print by themselves."""
    own = re.compile(r"click\.(echo|secho)\(|\bprint\(|\.show\(\)|print_exc")
    return sorted(path.name for path in folder.glob("*.py") if own.search(path.read_text()))


def test_the_command_line_prints_in_one_module(tmp_path):
    # click's own page of help, shown for no arguments, holds nothing of anybody's.
    assert printers(PACKAGE / "cli") == ["console.py", "error_messages.py"]
    messages = (PACKAGE / "cli" / "error_messages.py").read_text()
    assert messages.count(".show()") == 1
    assert not re.search(r"click\.echo|print\(", messages.replace(".print(", "("))
    (tmp_path / "other.py").write_text("print('x')")
    assert printers(tmp_path) == ["other.py"]


def test_escapes_are_shown_and_lines_kept(capsys):
    echo(f"one\n\t{TITLE}")
    echo(TITLE, err=True)
    out, err = capsys.readouterr()
    assert out == "one\n\t\\x1b]0;PWN\\x07\\x9b2J\\u202eevil\n" and not OBEYED.search(err)


def test_json_keeps_its_value(capsys):
    echo_json(json.dumps({TITLE: TITLE}, ensure_ascii=False))
    out = capsys.readouterr().out
    assert not OBEYED.search(out) and json.loads(out) == {TITLE: TITLE}


def test_a_live_line_obeys_no_markup():
    assert plain("[red]a[/red]\nb").plain == "[red]a[/red] b"


@pytest.fixture
def toy(tmp_path):
    """An artifact, and an engine's manifest, with a name that a terminal would obey in every text."""
    write_toy(tmp_path / "toy", "onnx", source=TITLE, model_type=TITLE)
    path = tmp_path / "toy" / MANIFEST_NAME
    document = json.loads(path.read_text())
    document["rotations"][0]["name"] = TITLE
    document["limits"]["note"] = TITLE
    document["findings"] = [{"code": "x", "severity": "info", "message": TITLE}]
    for site in document["sites"]:
        site["spec"] = TITLE
    path.write_text(json.dumps(document))
    return tmp_path / "toy"


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "toy"),
        ("inspect", "toy", "--json"),
        ("inspect", f"no{TITLE}"),
        ("inspect", f"no{TITLE}", "--traceback"),
        ("check", "toy", "--no-reference", "--quick"),
        ("check", "toy", "--no-reference", "--quick", "--json"),
        ("check", "toy", "--audit"),
        ("check", "toy", "--case", TITLE),
        ("bench", f"no{TITLE}"),
        ("build", f"no{TITLE}.onnx", "-o", "e.engine"),
        ("rewrite", f"no{TITLE}.onnx", "-o", "e.onnx", "--style", "onnx"),
        ("ci", f"no{TITLE}.toml"),
        (TITLE,),
        ("check", f"--{TITLE}"),
    ],
    ids=lambda arguments: " ".join(arguments).encode("unicode_escape").decode(),
)
def test_no_command_passes_one_on(toy, monkeypatch, capfd, arguments):
    monkeypatch.chdir(toy.parent)
    main(list(arguments))
    out, err = capfd.readouterr()
    assert out + err and not OBEYED.search(out + err)


def test_a_configuration_that_names_one_is_quoted_without_it(tmp_path, capfd):
    file = tmp_path / "x.toml"
    file.write_text(
        f'title = "x"\n[model]\nsource = {json.dumps("no/" + TITLE + "/x")}\n[output]\nfolder = "{tmp_path}/o"\n'
    )
    assert main(["ci", str(file)]) == 2
    out, err = capfd.readouterr()
    assert err and not OBEYED.search(out + err)
