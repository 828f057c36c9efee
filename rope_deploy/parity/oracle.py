"""What each site should give, from the rule in the manifest and float64 arithmetic; and how far it may be off.

PyTorch and a graph traced from it can be wrong together. The oracle takes the tensor a site actually rotated and
turns it by the rule itself, so that nothing of the layers before is left in the difference but one rotation's own
rounding. The budget follows from that, with u the unit roundoff of the graph's dtype (2^-24, 2^-11, 2^-8) and m the
largest element of the token, for one element y = a·cos − b·sin, |a|, |b| ≤ m:

    tables      cos and sin rounded once each          |a|·u + |b|·u      ≤ 2 u m
    products    a·cos and b·sin rounded                |a cos|·u + |b sin|·u ≤ √2 u m
    sum         rounded                                |y|·u              ≤ √2 u m
    attention_scaling, folded into the tables          one rounding more of each ≤ 2 u m
                                                                    total ≤ 6.9 u m → ROUNDINGS = 8

where the tables' values are those of the oracle before their rounding. With the model's own arithmetic the angle is
a float32 product of the position p and a float32 frequency, and the oracle repeats both. Where the graph computes
frequencies at run time it may round them otherwise: a power and a division, two units each, FREQUENCY_ROUNDINGS = 4,
turn the pair by up to 4·2^-24·p radians, and a turn by δ moves an element by δ m.

Second test: PyTorch computes the same rotation, and how far it is from the oracle at the same token is known. A site
over the budget is still sound if it is no worse than WORSE times that: PyTorch's error on one side, as much on the
other. PyTorch is no excuse beyond what float32 angles explain (the turn above, for a model's own frequencies): a
model that does not follow the rule must not hide a graph that does not either.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from rope_deploy.artifact import Manifest, Rotation, Site
from rope_deploy.rope import RopeSpec, by_pair, rotate, tables

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
ROUNDINGS = 8  # of tables, products and sum, for two elements of the largest size
FREQUENCY_ROUNDINGS = 4  # of a frequency computed at run time: a power and a division
WORSE = 2  # than PyTorch's own error is still no worse: it may err to one side, the graph to the other


# By rotation: the file's own cos and sin, [rows, R/2].
Stored = Mapping[str, tuple[np.ndarray, np.ndarray]]


class Oracle:
    """Tables for every rotation of one manifest, made when first needed; `stored` are those of rotations without rule.

    Positions are [B, S] everywhere, or [A, B, S] where they have several axes.
    """

    def __init__(self, manifest: Manifest, stored: Stored = MappingProxyType({})):
        self._angles, self._rows = manifest.angles, manifest.max_position
        self._unit = UNIT_ROUNDOFF[manifest.dtype]
        self._specs = {r.name: RopeSpec.from_dict(r.spec) for r in manifest.rotations if r.spec}
        self._computed = {r.name for r in manifest.rotations if r.cos_sin == "computed"}
        # Tables that come from the model alone: there is no rule to compare them with.
        self.without_rule = tuple(r.name for r in manifest.rotations if not r.spec)
        self._stored = {r.name: (r, stored[r.name]) for r in manifest.rotations if r.name in stored and not r.spec}
        self._made: dict[tuple[str, str, bytes, float], tuple[np.ndarray, np.ndarray]] = {}

    def fits(self, site: Site) -> bool:
        """Whether the site's rotation is known and its head is wide enough for it."""
        return site.rotation in self._stored or self.has_rule(site)

    def has_rule(self, site: Site) -> bool:
        """Whether it is known by a rule, not by a table."""
        return site.rotation in self._specs and self._specs[site.rotation].rotary_dim <= site.head_dim

    def rotated(self, site: Site, unrotated: np.ndarray, positions: np.ndarray) -> np.ndarray | None:
        """float64 [B, N, S, H] from unrotated [B, N, S, H] and positions; None where no rule is known."""
        if site.rotation in self._stored:
            return _as_stored(*self._stored[site.rotation], unrotated, positions)
        if site.rotation not in self._specs:
            return None
        rows = by_pair(self._specs[site.rotation], positions)
        cos, sin = (_rows(table, rows)[:, None] for table in self._tables(site, positions, self._angles))
        interleaved = self._specs[site.rotation].interleaved
        return rotate(unrotated.astype(np.float64), cos, sin, interleaved=interleaved)

    def rounding(self, site: Site, exact: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """How far a sound rotation in the graph's dtype may be from `exact` [B, N, S, H]: [B, S]; see the top."""
        budget = _largest(exact) * (ROUNDINGS * self._unit + self._angle_error(site, positions))
        return np.maximum(budget, np.finfo(np.float32).tiny)  # of a token of zeros, too

    def budget(self, site: Site, exact: np.ndarray, positions: np.ndarray, own: np.ndarray | None) -> np.ndarray:
        """The same, or as far as PyTorch is itself (`own` [B, S], None where it is not known): [B, S]."""
        rounding = self.rounding(site, exact, positions)
        if own is None:
            return rounding
        excusable = _largest(exact) * (ROUNDINGS * self._unit + turn(positions))
        return np.maximum(rounding, np.minimum(WORSE * own, excusable))

    def slack(self, site: Site, want: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """What a site may differ from PyTorch's `want` [B, N, S, H] beyond the manifest's tolerance: [B, S].

        Zero for tables that repeat PyTorch's. For `--angles float64` it is the known difference of the two tables.
        """
        gap = self._angle_error(site, positions)
        if self._angles == "float64" and site.rotation in self._specs:
            ours, theirs = (self._tables(site, positions, angles) for angles in ("float64", "model"))
            rows = by_pair(self._specs[site.rotation], positions)
            for a, b in zip(ours, theirs):
                gap = gap + np.abs(_rows(a, rows) - _rows(b, rows)).max(axis=-1)
        return _largest(want) * np.sqrt(2) * gap

    def _angle_error(self, site: Site, positions: np.ndarray) -> np.ndarray:
        """Radians, [B, S]: fp32 frequencies computed at run time may be off by some units, times the position."""
        return turn(positions) * (site.rotation in self._computed)

    def _tables(self, site: Site, positions: np.ndarray, angles: str) -> tuple[np.ndarray, np.ndarray]:
        spec = self._specs[site.rotation]
        length = int(positions.max()) + 1 if spec.depends_on_length else None
        # Many lengths share their frequencies. Phi-3.5-MoE has one set of them at every length, and two factors.
        varied = b"" if length is None else (spec.inv_freq(length).tobytes(), spec.attention_scaling_at(length))
        key = (site.rotation, angles, varied)
        if key not in self._made:
            self._made[key] = tables(spec, self._rows, angles=angles, seq_len=length)
        return self._made[key]


def _as_stored(
    rotation: Rotation, tables: tuple[np.ndarray, np.ndarray], unrotated: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """The same by the file's own table."""
    several = positions.ndim == 3
    rows = np.moveaxis(positions[list(rotation.axes)], 0, -1) if several else positions[..., None]
    cos, sin = (_rows(table, rows)[:, None] for table in tables)
    return rotate(unrotated.astype(np.float64), cos, sin, interleaved=rotation.interleaved)


def _rows(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Each pair's column at its own row: table [M, P] and rows [B, S, 1 or P] -> float64 [B, S, P]."""
    return table[rows, np.arange(table.shape[1])].astype(np.float64)


def turn(positions: np.ndarray) -> np.ndarray:
    """Radians by which float32 frequencies may put a pair at `positions` off: [B, S]."""
    reach = positions.max(axis=0) if positions.ndim == 3 else positions
    return reach * (FREQUENCY_ROUNDINGS * UNIT_ROUNDOFF["float32"])


def _largest(x: np.ndarray) -> np.ndarray:
    """Largest finite element of each token of [B, N, S, H]: [B, S]."""
    return np.abs(np.nan_to_num(x, posinf=0, neginf=0)).max(axis=(1, 3))
