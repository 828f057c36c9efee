"""An outcome is at fault for each thing that must not happen, and only for that."""

from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.judge import LARGEST, LONGEST, Outcome, faults, leftovers

SOUND = Outcome(2, "Error: it has no weights", 1.0, 10**8)
TRACE = """Traceback (most recent call last):
  File "/x/rope_deploy/graph/passes/merge_equal.py", line 37, in _merge_equal
    tensor.string_data
Error: Unexpected AttributeError: 'Tensor' object has no attribute 'string_data'
This is a fault in rope-deploy, not in what you asked for.
"""


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_an_exit_code_of_the_list_is_sound(code: int) -> None:
    assert faults(replace(SOUND, code=code)) == []


@pytest.mark.parametrize(
    ("changed", "signature"),
    [
        ({"code": -6}, "signal 6"),
        ({"code": 99}, "exit code 99"),
        ({"code": 5}, "internal error: an exception at no place of ours"),
        (
            {"code": 1, "text": TRACE},
            "internal error: AttributeError at rope_deploy/graph/passes/merge_equal.py:37 _merge_equal",
        ),
        ({"seconds": LONGEST + 1}, "hang"),
        ({"code": -9, "timed_out": True}, "hang"),
        ({"memory": LARGEST + 1}, "memory"),
        ({"text": "model \x1b]0;PWN\x07"}, "terminal escape"),
        ({"opened": ("secret.txt",)}, "outside: secret.txt"),
        ({"changed": ("input/a/model.onnx",)}, "changed: input/a/model.onnx"),
        ({"left": (".out.tmp",)}, "left: .out.tmp"),
    ],
)
def test_what_must_not_happen_is_a_fault(changed: dict, signature: str) -> None:
    assert faults(replace(SOUND, **changed)) == [signature]


def test_a_wrong_artifact_must_not_pass() -> None:
    assert faults(replace(SOUND, code=0), fails=True) == ["talked out of its verdict"]
    assert faults(replace(SOUND, code=1), fails=True) == []


def test_what_a_failed_command_wrote_is_left_over(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").touch()
    assert leftovers(tmp_path, 0) == ()
    assert leftovers(tmp_path, 2) == ("out/model.onnx",)
    (tmp_path / ".out.tmp").touch()
    assert leftovers(tmp_path, 0) == (".out.tmp",)
