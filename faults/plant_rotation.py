"""What a rotation site does, as numbers, and two ways to make it do something else.

Natural: through what the style offers. Its table, the table of one node, the index into it, an attribute.
Rebuilt: the site's output is made anew by standard operators from the site's input; works in every style.

Shapes: B rows, N heads, S tokens, H head_dim, R rotary_dim, M rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx

from faults.artifact_graph import Graph, set_attribute
from rope_deploy.artifact import Rotation, Site
from rope_deploy.graph.rotating_operators import (
    DO_ROTARY,
    DOMAIN,
    GROUP_QUERY_ATTENTION,
    NUM_HEADS,
    STANDARD,
    operator_of,
)
from rope_deploy.rope import RopeSpec, from_angles, tables

Moved = Callable[[Graph, str], str]


@dataclass(frozen=True)
class AppliedRotation:
    """One rotation. cos, sin [M, R/2] in the graph's type; pairs [R/2, 2]: which elements of a head rotate together.

    `moved` makes the wrong positions [B, S] from the right ones. `times`: how often the rotation is applied.
    """

    cos: np.ndarray
    sin: np.ndarray
    pairs: np.ndarray
    moved: Moved | None = None
    times: int = 1

    def cast(self, cos: np.ndarray, sin: np.ndarray) -> AppliedRotation:
        """The same with other tables, rounded to the type of the old ones."""
        return replace(self, cos=cos.astype(self.cos.dtype), sin=sin.astype(self.sin.dtype))


def half_split(rotary_dim: int) -> np.ndarray:
    return np.arange(rotary_dim).reshape(2, -1).T


def interleaved(rotary_dim: int) -> np.ndarray:
    return np.arange(rotary_dim).reshape(-1, 2)


@dataclass(frozen=True)
class Sound:
    """A site as it was exported: the rule it follows, its tables, and the row index of its graph."""

    graph: Graph
    site: Site
    rotation: Rotation

    @cached_property
    def spec(self) -> RopeSpec:
        return RopeSpec.from_dict(self.rotation.spec)

    @cached_property
    def applied(self) -> AppliedRotation:
        pairs = (interleaved if self.spec.interleaved else half_split)(self.spec.rotary_dim)
        if self.rotation.cos_cache is None or self.rotation.sin_cache is None:
            dtype = np.dtype(self.graph.manifest.dtype)
            return self.by_rule(self.spec, AppliedRotation(np.zeros(0, dtype), np.zeros(0, dtype), pairs))
        return AppliedRotation(
            self.graph.array(self.rotation.cos_cache), self.graph.array(self.rotation.sin_cache), pairs
        )

    @property
    def lengths(self) -> tuple[tuple[int, int], ...]:
        """(rows, length of call) of each table that is stored, one below the other."""
        rows = self.graph.manifest.max_position
        if self.rotation.cos_sin == "two-tables":
            original = self.spec.original_max_position
            assert original is not None
            return (original, original), (rows, rows)
        if self.rotation.cos_sin == "computed":  # one for every length there can be
            return tuple((rows, length) for length in range(1, rows + 1))
        return ((rows, rows),)

    def by_rule(self, spec: RopeSpec, applied: AppliedRotation | None = None) -> AppliedRotation:
        """The same site with tables made by another rule."""
        return self.stacked([tables(spec, rows, seq_len=length) for rows, length in self.lengths], applied)

    def by_angles(self, angles: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> AppliedRotation:
        """The same site with angles [M, R/2] made otherwise, from positions [M, 1] and frequencies [R/2], fp32."""
        positions = [np.arange(rows, dtype=np.float32)[:, None] for rows, _ in self.lengths]
        frequencies = [self.spec.inv_freq(length) for _, length in self.lengths]
        made = [angles(*given).astype(np.float64) for given in zip(positions, frequencies, strict=True)]
        return self.stacked([from_angles(self.spec, angle) for angle in made])

    def stacked(
        self, parts: Collection[tuple[np.ndarray, np.ndarray]], applied: AppliedRotation | None = None
    ) -> AppliedRotation:
        """The same site with these tables, one for each of `lengths`; the last row of NaN follows."""
        cos, sin = (np.concatenate(halves) for halves in zip(*parts, strict=True))
        poison = np.full((1, cos.shape[1]), np.nan, cos.dtype)
        return (applied or self.applied).cast(np.concatenate([cos, poison]), np.concatenate([sin, poison]))

    def rows(self, moved: Moved | None = None) -> str:
        """The index [B, S] of each token's row in `applied`'s tables, if it stands where `moved` puts it."""
        if moved is None and self.rotation.cos_cache is not None:
            return self._index
        return self.graph.once((moved, self.site.rotation), lambda: self._rows(moved))

    @property
    def _index(self) -> str:
        node = self.graph.users(self.rotation.cos_cache or "")[0]
        return node.input[(_slots(node) or (0, 0, 0))[2]]

    def _rows(self, moved: Moved | None) -> str:
        """As the exporter writes it: the row of NaN for what lies outside, the long table for long calls."""
        op, number = self.graph.op, lambda n: self.graph.constant(np.array(n))
        end, told = self.graph.manifest.max_position, any(i.name == "position_ids" for i in self.graph.manifest.inputs)
        positions = "position_ids" if told else self._index  # encoders count by themselves
        positions = positions if moved is None else moved(self.graph, positions)
        inside = op("And", op("GreaterOrEqual", positions, number(0)), op("Less", positions, number(end)))
        row, longest = positions, op("ReduceMax", positions, keepdims=0)
        if self.rotation.cos_sin == "two-tables":
            original = number(self.spec.original_max_position)
            row = op("Add", row, op("Where", op("GreaterOrEqual", longest, original), original, number(0)))
        if self.rotation.cos_sin == "computed":
            row = op("Add", row, op("Mul", op("Min", longest, number(end - 1)), number(end)))
        return op("Where", inside, row, number(len(self.applied.cos) - 1))


def sites_of(graph: Graph, layers: Collection[int] | None = None) -> list[Sound]:
    """The sites in `layers`, or all of them."""
    rotations = {rotation.name: rotation for rotation in graph.manifest.rotations}
    chosen = [site for site in graph.manifest.sites if layers is None or site.layer in layers]
    return [Sound(graph, site, rotations[site.rotation]) for site in chosen]


def plant(graph: Graph, wrong: list[tuple[Sound, AppliedRotation]], *, natural: bool) -> bool:
    """Make each site apply its rotation. False, and nothing has changed, if it cannot be done in this way."""
    return _naturally(graph, wrong) if natural else _rebuilt(graph, wrong)


def node_of(graph: Graph, site: Site) -> onnx.NodeProto | None:
    """The one node that rotates `site`; None where several standard ones do."""
    if site.output is None:
        return next(n for n in graph.users(site.input or "") if n.op_type == GROUP_QUERY_ATTENTION)
    node = graph.producer(site.output)
    return node if node is not None and _slots(node) else None


def _slots(node: onnx.NodeProto) -> tuple[int, int, int] | None:
    """Which inputs of a node are cos, sin and the row index."""
    if (node.domain, node.op_type) == (STANDARD, "Gather"):
        return 0, 0, 1
    operator = operator_of(node)
    return None if operator is None else (operator.cos, operator.sin, operator.rows)


def _naturally(graph: Graph, wrong: list[tuple[Sound, AppliedRotation]]) -> bool:
    if any(sound.rotation.cos_cache is None or applied.times != 1 for sound, applied in wrong):
        return False
    nodes = {node.output[0]: node for sound, _ in wrong if (node := node_of(graph, sound.site)) is not None}
    if not nodes:
        return _shared(graph, wrong)
    plans: list[tuple[onnx.NodeProto, Sound, AppliedRotation]] = []
    for node in nodes.values():
        held = [
            s for s in sites_of(graph) if (n := node_of(graph, s.site)) is not None and n.output[0] == node.output[0]
        ]
        mine = [applied for sound, applied in wrong if any(sound.site == other.site for other in held)]
        alike = len(mine) == len(held) and all(_alike(applied, mine[0]) for applied in mine)
        if not alike or not _fits(node, held[0], mine[0]):
            return False
        plans.append((node, held[0], mine[0]))
    for node, sound, applied in plans:
        _set(graph, node, sound, applied)
    return True


def _alike(one: AppliedRotation, other: AppliedRotation) -> bool:
    return (
        np.array_equal(one.pairs, other.pairs)
        and one.moved is other.moved
        and np.array_equal(one.cos, other.cos, equal_nan=True)
        and np.array_equal(one.sin, other.sin, equal_nan=True)
    )


def _fits(node: onnx.NodeProto, sound: Sound, applied: AppliedRotation) -> bool:
    """Whether the node's attributes can say this layout, and its operator reads the whole index."""
    if node.op_type == GROUP_QUERY_ATTENTION and (applied.moved is not None or 2 * len(applied.pairs) % 16):
        return False
    if np.array_equal(applied.pairs, sound.applied.pairs):
        return True
    plain = [layout(2 * len(applied.pairs)) for layout in (half_split, interleaved)]
    return node.domain != DOMAIN and any(np.array_equal(applied.pairs, layout) for layout in plain)


def _set(graph: Graph, node: onnx.NodeProto, sound: Sound, applied: AppliedRotation) -> None:
    cos, sin, index = _slots(node) or (0, 0, 0)
    node.input[cos], node.input[sin] = graph.constant(applied.cos), graph.constant(applied.sin)
    if applied.moved is not None:
        node.input[index] = sound.rows(applied.moved)
    if not np.array_equal(applied.pairs, sound.applied.pairs):
        width, operator = 2 * len(applied.pairs), operator_of(node)
        assert operator is not None, node.op_type
        neighbours = not np.array_equal(applied.pairs, half_split(width))
        set_attribute(node, operator.interleaved, int(neighbours))
        if operator.rotary_dim:
            set_attribute(node, operator.rotary_dim, width if width < sound.site.head_dim else 0)
            set_attribute(node, NUM_HEADS, sound.site.num_heads)


def _shared(graph: Graph, wrong: list[tuple[Sound, AppliedRotation]]) -> bool:
    """Style tables: one table and one index for all sites of a rotation. All of them must go wrong alike."""
    plans: dict[str, tuple[Sound, AppliedRotation]] = {}
    for sound in sites_of(graph):
        applied = next((applied for other, applied in wrong if other.site == sound.site), None)
        if applied is None and any(other.site.rotation == sound.site.rotation for other, _ in wrong):
            return False
        if applied is None:
            continue
        _, first = plans.setdefault(sound.site.rotation, (sound, applied))
        if not _alike(applied, first) or not np.array_equal(applied.pairs, sound.applied.pairs):
            return False
    for sound, applied in plans.values():
        for name, array in ((sound.rotation.cos_cache, applied.cos), (sound.rotation.sin_cache, applied.sin)):
            readers = graph.users(name or "")
            graph.overwrite(name or "", array)
            for node in readers if applied.moved is not None else ():
                node.input[1] = sound.rows(applied.moved)
    return True


def _rebuilt(graph: Graph, wrong: list[tuple[Sound, AppliedRotation]]) -> bool:
    fused = [sound.site.layer for sound, _ in wrong if sound.site.output is None]
    given = [sound.site for sound, _ in wrong]
    # The operator cannot rotate q without k: both are then rotated before it, the other one rightly.
    untouched = [(s, s.applied) for s in sites_of(graph, fused) if s.site not in given and s.site.output is None]
    operators = [(sound.site, node_of(graph, sound.site)) for sound, _ in wrong + untouched if not sound.site.output]
    for sound, applied in wrong + untouched:
        site = sound.site
        x = rotated(graph, _to_heads(graph, site.input or "", site), sound, applied)
        y = _from_heads(graph, x, site)
        if site.output is not None:
            graph.displaced(site.output)
            graph.supplant(site.output, y)
        else:
            node = next(node for other, node in operators if other == site)
            node.input[0 if site.role == "q" else 1] = y
    for _, node in operators:
        set_attribute(node, DO_ROTARY, 0)
        for slot in _slots(node) or ():
            node.input[slot] = ""
    return True


def rotated(graph: Graph, x: str, sound: Sound, applied: AppliedRotation) -> str:
    """x [B, N, S, H] rotated as often as `applied` says."""
    rows = sound.rows(applied.moved)
    for _ in range(applied.times):
        x = _rotate(graph, x, applied, rows, sound.site.head_dim)
    return x


def _rotate(graph: Graph, x: str, applied: AppliedRotation, rows: str, head_dim: int) -> str:
    """Once: pairs are taken apart, rotated, and put back."""
    c, s = (
        graph.op("Unsqueeze", graph.op("Gather", graph.constant(table), rows, axis=0), graph.ints(1))
        for table in (applied.cos, applied.sin)
    )
    first, second = applied.pairs.T
    still = np.setdiff1d(np.arange(head_dim), applied.pairs)
    a, b = (graph.op("Gather", x, graph.ints(*which), axis=3) for which in (first, second))
    pieces = [
        graph.op("Sub", graph.op("Mul", a, c), graph.op("Mul", b, s)),
        graph.op("Add", graph.op("Mul", b, c), graph.op("Mul", a, s)),
    ]
    if len(still):
        pieces.append(graph.op("Gather", x, graph.ints(*still), axis=3))
    back = np.argsort(np.concatenate([first, second, still]))
    return graph.op("Gather", graph.op("Concat", *pieces, axis=3), graph.ints(*back), axis=3)


def _to_heads(graph: Graph, x: str, site: Site) -> str:
    """Any layout as [B, N, S, H]."""
    if site.layout == "BNSH":
        return x
    if site.layout == "BS(NH)":
        x = graph.op("Reshape", x, graph.ints(0, 0, site.num_heads, site.head_dim))
    return graph.op("Transpose", x, perm=[0, 2, 1, 3])


def _from_heads(graph: Graph, x: str, site: Site) -> str:
    if site.layout == "BNSH":
        return x
    x = graph.op("Transpose", x, perm=[0, 2, 1, 3])
    return x if site.layout == "BSNH" else graph.op("Reshape", x, graph.ints(0, 0, site.num_heads * site.head_dim))
