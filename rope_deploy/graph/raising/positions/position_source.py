"""Where the positions of a graph come from: the protocol that raising uses.

Three modules implement it: `from_input`, `counted_in_graph` and `fixed_rows`; `choose_source` picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.markers import Table
from rope_deploy.graph.raising.match import Match


class PositionSource(Protocol):
    """The positions of one graph, and the tables of its rotations.

    `ranks`: how many axes a rotated tensor may have, the likelier first. `any_pairs`: whether a pair may be any two
    elements of a head. `numbered`: whether layer numbers in the names of nodes identify a layer.
    """

    ranks: Sequence[int]
    any_pairs: bool
    numbered: bool

    def marks(self) -> Marks:
        """What each value of the graph, as it is now, depends on."""
        ...

    def table(self, match: Match) -> Table:
        """The table of `match`. Raises NotARotation or NotEvaluable if its columns are no cos and sin of positions."""
        ...

    def rows(self, table: Table) -> int:
        """The number of positions that `table` serves."""
        ...

    def positions(self, match: Match) -> ir.Value:
        """The position of each token of `match`, [B, S] or [A, B, S]; made in the graph where it is not there."""
        ...
