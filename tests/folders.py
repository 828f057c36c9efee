"""Where code of ours lies, for tests that read all of it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
WITH_CODE = ("rope_deploy", "tests", "conformance", "faults", "fuzz", "benchmarks", "docs", "plugins", "examples")
