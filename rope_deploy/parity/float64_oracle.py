"""The oracle: what each site should give by the rule in the manifest, in float64, and how far it may be from that.

PyTorch and a graph traced from it can be wrong together. The oracle rotates the very tensor that a site rotated, by the
rule itself, so that nothing of the layers before is left in the difference but one rotation's own rounding.
`tolerances.py` derives how large that may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from rope_deploy.artifact import Manifest, Rotation, Site
from rope_deploy.parity.tolerances import UNIT_ROUNDOFF, angle_rounding, excused_by_reference, rotation_budget
from rope_deploy.rope import RopeSpec, by_pair, rotate, tables

# The file's own cos and sin, [rows, R/2], by the name of the rotation.
StoredTables = Mapping[str, tuple[np.ndarray, np.ndarray]]


class Oracle:
    """The tables of every rotation of one manifest, made when first needed.

    `stored` are the file's own tables of rotations without a rule. Positions are [B, S] everywhere, or [A, B, S] where
    they have several axes.
    """

    def __init__(self, manifest: Manifest, stored: StoredTables = MappingProxyType({})):
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
        """Whether a rule states the site's rotation, and its head is wide enough for it."""
        return site.rotation in self._specs and self._specs[site.rotation].rotary_dim <= site.head_dim

    def rotated(self, site: Site, unrotated: np.ndarray, positions: np.ndarray) -> np.ndarray | None:
        """`unrotated` [B, N, S, H] rotated in float64, [B, N, S, H]; None where neither rule nor table is known."""
        if site.rotation in self._stored:
            return _as_stored(*self._stored[site.rotation], unrotated, positions)
        if site.rotation not in self._specs:
            return None
        rows = by_pair(self._specs[site.rotation], positions)
        cos, sin = (_rows(table, rows)[:, None] for table in self._tables(site, positions, self._angles))
        interleaved = self._specs[site.rotation].interleaved
        return rotate(unrotated.astype(np.float64), cos, sin, interleaved=interleaved)

    def rounding(self, site: Site, exact: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """How far a sound rotation in the graph's dtype may be from `exact` [B, N, S, H]: [B, S]."""
        return rotation_budget(_largest(exact), self._unit, self._angle_error(site, positions))

    def budget(
        self, site: Site, exact: np.ndarray, positions: np.ndarray, reference_errors: np.ndarray | None
    ) -> np.ndarray:
        """`rounding`, or as far as PyTorch's own rotation is from the oracle (None where that is not known): [B, S]."""
        rounding = self.rounding(site, exact, positions)
        if reference_errors is None:
            return rounding
        return excused_by_reference(rounding, _largest(exact), self._unit, positions, reference_errors)

    def slack(self, site: Site, want: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """By how much a site may differ from PyTorch's `want` [B, N, S, H] beyond the fixed tolerance: [B, S].

        Zero for tables that repeat PyTorch's; the known difference of the two tables for `--angles float64`.
        """
        gap = self._angle_error(site, positions)
        if self._angles == "float64" and site.rotation in self._specs:
            ours, theirs = (self._tables(site, positions, angles) for angles in ("float64", "model"))
            rows = by_pair(self._specs[site.rotation], positions)
            for a, b in zip(ours, theirs):
                gap = gap + np.abs(_rows(a, rows) - _rows(b, rows)).max(axis=-1)
        return _largest(want) * np.sqrt(2) * gap

    def _angle_error(self, site: Site, positions: np.ndarray) -> np.ndarray:
        """Radians, [B, S], by which frequencies that the graph computes at run time may be off; else 0."""
        return angle_rounding(positions) * (site.rotation in self._computed)

    def _tables(self, site: Site, positions: np.ndarray, angles: str) -> tuple[np.ndarray, np.ndarray]:
        spec = self._specs[site.rotation]
        length = int(positions.max()) + 1 if spec.depends_on_length else None
        # Many lengths share their frequencies. Phi-3.5-MoE has one set of them at every length, and two factors.
        of_length = b"" if length is None else (spec.inv_freq(length).tobytes(), spec.attention_scaling_at(length))
        key = (site.rotation, angles, of_length)
        if key not in self._made:
            self._made[key] = tables(spec, self._rows, angles=angles, seq_len=length)
        return self._made[key]


def _as_stored(
    rotation: Rotation, tables: tuple[np.ndarray, np.ndarray], unrotated: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """`unrotated` after the rotation by the file's own table, float64."""
    has_axes = positions.ndim == 3
    rows = np.moveaxis(positions[list(rotation.axes)], 0, -1) if has_axes else positions[..., None]
    cos, sin = (_rows(table, rows)[:, None] for table in tables)
    return rotate(unrotated.astype(np.float64), cos, sin, interleaved=rotation.interleaved)


def _rows(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Each pair's column at its own row: table [M, P] and rows [B, S, 1 or P] -> float64 [B, S, P]."""
    return table[rows, np.arange(table.shape[1])].astype(np.float64)


def _largest(x: np.ndarray) -> np.ndarray:
    """Largest finite element of each token of [B, N, S, H]: [B, S]."""
    return np.abs(np.nan_to_num(x, posinf=0, neginf=0)).max(axis=(1, 3))
