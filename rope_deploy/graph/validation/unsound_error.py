"""The one exception of the checks, and how their messages name things in a file."""

from __future__ import annotations

import onnx

LONGEST = 80  # characters of a name that a message repeats


class Unsound(Exception):
    """The file is not sound; the message says what is wrong with it, as the end of a sentence."""


def quoted_name(name: str) -> str:
    """A name from a file, in quotes, short and without control characters."""
    shown = repr(name)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…'"


def node_label(node: onnx.NodeProto) -> str:
    """E.g. "node '/model/Add_3' (Add)"."""
    name = node.name or next((output for output in node.output if output), "")
    operator = f"{node.domain}.{node.op_type}".lstrip(".")
    return f"node {quoted_name(name)} ({operator[:LONGEST]})"
