"""The one exception of the checks, and the words for names in a file."""

from __future__ import annotations

import onnx

LONGEST = 80  # characters of a name that are repeated


class Fault(Exception):
    """What is wrong with a file, as the end of a sentence."""


def named(name: str) -> str:
    """A name from a file, in quotes, short and without control characters."""
    shown = repr(name)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…'"


def node_words(node: onnx.NodeProto) -> str:
    """E.g. "node '/model/Add_3' (Add)"."""
    name = node.name or next((output for output in node.output if output), "")
    operator = f"{node.domain}.{node.op_type}".lstrip(".")
    return f"node {named(name)} ({operator[:LONGEST]})"
