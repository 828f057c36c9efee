"""The mathematics needs numpy and nothing else."""

from __future__ import annotations

import subprocess
import sys


def test_it_imports_numpy_alone() -> None:
    code = "import sys, rope_deploy.rope; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {"torch", "transformers", "pydantic", "onnx", "scipy", "ml_dtypes"}
