"""A link is followed where a command was told to look, and nowhere else."""

from pathlib import Path

import pytest

from fuzz.case import Case
from fuzz.worker import asked_for


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for name in ("m/config.json", "m/model.safetensors", "a/rope_deploy.json", "a/config.json", "a/model.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "argument", "asked"),
    [
        ("a/model.onnx", "a/model.onnx", True),
        ("m/model.safetensors", "m", True),
        ("m/config.json", "m", True),
        ("m/model.safetensors", "a", False),
        ("a/model.onnx", "a", False),
        ("a/config.json", "a", False),
    ],
)
def test_a_link_is_followed_where_the_command_was_told_to_look(
    box: Path, link: str, argument: str, asked: bool
) -> None:
    assert asked_for(link, Case("weights", {}, argv=["export", argument]), box) is asked
