"""What a reading of a file holds: its sites, their tables, and what could not be read. numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from rope_deploy.errors import UnmatchedRotation

# cos and sin, [P, rotary_dim/2], of P positions in a call of so many tokens, the past included.
At = Callable[[NDArray[Any], int], tuple[NDArray[Any], NDArray[Any]]]
# "input": from position_ids; "lengths": from the length of each sequence; "counted": from the tokens of the call.
Positions = Literal["input", "lengths", "counted"]


class Unreadable(UnmatchedRotation):
    """Why cos and sin could not be computed; the user reads it with the site's name."""


@dataclass(frozen=True)
class Precision:
    """In which types a table is made. `angles` is that of the angles, None if they are stored or unknown.

    `frequencies` is "float16" or "bfloat16" if the frequencies went through that type, else "".
    """

    table: str
    activations: str | None
    angles: str | None = None
    frequencies: str = ""


@dataclass(frozen=True)
class FoundTable:
    """The cos and sin of one or more sites, [rows, rotary_dim/2], whether stored or computed.

    `rows`: how many positions from 0 on it serves, None if every one is computed. `at` computes it, and raises
    Unreadable; a table that counts by itself (`positions` "counted") takes consecutive positions only. `nodes` are
    the trigonometric nodes that run for every call, `product` the matrix product that its angles go through.
    `follows`: what else than a token's own position its numbers follow from (analysis/influences.py). `constants`: the
    initializers that a stored table is read from.
    """

    name: str
    rows: int | None
    width: int
    positions: Positions
    precision: Precision
    at: At
    nodes: tuple[str, ...] = ()
    product: str | None = None
    follows: frozenset[str] = frozenset()
    constants: tuple[str, ...] = ()

    @property
    def stored(self) -> bool:
        return self.rows is not None


@dataclass(frozen=True)
class FoundSite:
    """One application of a rotation. `table` is an index into `Reading.tables`; a size is None where it is unknown."""

    layer: int
    role: Literal["q", "k"]
    node: str
    form: str
    table: int
    num_heads: int | None
    head_dim: int | None
    rotary_dim: int
    interleaved: bool


@dataclass(frozen=True)
class Unread:
    """A part of the graph that looks like a rotation, and why it was not understood."""

    node: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """The rotations of one branch of a graph. `branch` names it where the file has several (If), else "".

    `inputs` are named as in the file. `nodes` are the graph's own before anything is folded, `trigonometric` the Cos
    and Sin among them, in subgraphs and in functions. `cached`: the graph takes a past. `numbered`: the layers are
    those that names in the file state; else they were counted. `skipped`: parts that were not searched, one sentence
    each. `position_axes`: how many positions a token has (3 for M-RoPE), None without position_ids.
    """

    branch: str
    opset: int
    inputs: tuple[str, ...]
    nodes: int
    trigonometric: int
    sites: tuple[FoundSite, ...]
    tables: tuple[FoundTable, ...]
    unread: tuple[Unread, ...]
    skipped: tuple[str, ...] = ()
    cached: bool = False
    numbered: bool = True
    position_axes: int | None = None

    def sites_of(self, table: int) -> tuple[FoundSite, ...]:
        return tuple(site for site in self.sites if site.table == table)
