"""Where code of ours lies, and what tests that read all of it look for."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parent.parent
WITH_CODE = ("rope_deploy", "tests", "conformance", "faults", "fuzz", "benchmarks", "docs", "plugins", "examples")


def comparisons_with(names: Collection[str], source: str) -> list[int]:
    """The lines of `source` where something is compared with one of `names`: what differs is for their records."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        for part in (node.left, *node.comparators)
        if isinstance(part, ast.Constant) and part.value in names
    ]
