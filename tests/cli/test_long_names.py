"""A name that is too long for the system is the name of nothing, in every command."""

import pytest

from rope_deploy.cli.main import main

NAME = "n" * 300  # Linux takes 255 bytes


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", f"{NAME}.onnx"],
        ["check", NAME],
        ["check", "--audit", f"{NAME}.onnx"],
        ["bench", NAME],
        ["build", NAME, "-o", "e.engine"],
        ["build", f"{NAME}.onnx", "-o", "e.engine"],
        ["rewrite", f"{NAME}.onnx", "--style", "onnx", "-o", "x.onnx"],
        ["ci", f"{NAME}.toml"],
    ],
    ids=lambda arguments: " ".join(one for one in arguments if NAME not in one),
)
def test_it_is_refused_with_a_sentence(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Error: " in error and NAME in "".join(error.split())
    assert "Traceback" not in error and "fault in rope-deploy" not in error
    assert list(tmp_path.iterdir()) == []
