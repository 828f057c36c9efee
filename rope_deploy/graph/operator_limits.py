"""What the rotating operators of a graph cannot do although the graph's inputs would allow it.

An export states these limits in its manifest, and a check compares the manifest's with those of the graph: both ask
here. GroupQueryAttention takes lengths where the model had a mask, and lengths say less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rope_deploy.graph.rotating_operators import RotatingOperator, has_attribute, rotates

if TYPE_CHECKING:
    from rope_deploy.graph.rotating_operators import Node


@dataclass(frozen=True)
class OperatorLimit:
    """`name` is the field of `artifact.Limits` that is then False; `text` is what reports call it.

    `applies`: whether a node that rotates has this limit. `note`: the cause and what to do, for the manifest's reader.
    """

    name: str
    text: str
    applies: Callable[[Node, RotatingOperator], bool]
    note: str


def _takes_lengths(node: Node, operator: RotatingOperator) -> bool:
    return operator.fused and not operator.opaque


def _has_a_window(node: Node, operator: RotatingOperator) -> bool:
    return _takes_lengths(node, operator) and has_attribute(node, "local_window_size")


_LENGTHS = (
    "GroupQueryAttention counts real tokens from the front of each row; export with --no-fused-attention for more."
)
OPERATOR_LIMITS = (
    OperatorLimit("left_padding", "no left padding", _takes_lengths, _LENGTHS),
    OperatorLimit("chunked_prefill_batch", "no chunked prefill at batch > 1", _takes_lengths, _LENGTHS),
    OperatorLimit("prompt_positions", "positions of a first prompt that count up by one", _takes_lengths, _LENGTHS),
    OperatorLimit("padded_past", "no padding in the past of a sliding window", _has_a_window, _LENGTHS),
)


def limited_values(nodes: Iterable[Node]) -> dict[str, frozenset[str]]:
    """The limits that operators among `nodes` have, by name; of each, the rotated values that these operators give."""
    rotating = [(node, operator) for node in nodes if (operator := rotates(node)) is not None]
    found = {}
    for limit in OPERATOR_LIMITS:
        limited = [one for one in rotating if limit.applies(*one)]
        if limited:
            found[limit.name] = frozenset(name for one in limited for name in rotated_values(*one))
    return found


def rotated_values(node: Node, operator: RotatingOperator) -> list[str]:
    """Names of the rotated q and k that `node` gives; of a fused attention, of the cache that has its k, if any."""
    outputs = node.outputs if hasattr(node, "outputs") else node.output
    names = [value if isinstance(value, str) else value.name for value in outputs]
    return names[1:2] if operator.fused else names
