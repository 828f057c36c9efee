"""The arrangement by which tests trace faster changes nothing in what is traced."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import hashlib, sys
import onnx_ir as ir
from rope_deploy.models import trace
from tests import tiny
from tests.quick_traces import quicken
if sys.argv[1] == "quick":
    quicken()
model = ir.to_proto(trace(tiny.loaded(sys.argv[2])).model)
print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())
"""


def digest(arranged: str, family: str) -> str:
    command = [sys.executable, "-c", PROGRAM, arranged, family]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout.split()[-1]


@pytest.mark.slow
def test_a_trace_is_the_same_byte_for_byte():
    assert digest("quick", "llama") == digest("as it is", "llama") != digest("quick", "qwen2")
