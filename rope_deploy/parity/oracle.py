"""What each site should give, from the rule in the manifest and float64 arithmetic.

PyTorch and a graph traced from it can be wrong together. The oracle takes the tensor a site actually rotated and
turns it by the rule itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.rope import RopeSpec, rotate, tables


class Oracle:
    """Tables for every rotation of one manifest, made when first needed."""

    def __init__(self, manifest: Manifest):
        self._angles, self._rows = manifest.angles, manifest.max_position
        # Text has one position per token, also where images have three: all axes of a section coincide.
        specs = {r.name: RopeSpec.from_dict(r.spec) for r in manifest.rotations if r.spec}
        self._specs = {name: replace(spec, mrope_section=()) for name, spec in specs.items()}
        # Tables that come from the model alone: there is no rule to compare them with.
        self.without_rule = tuple(r.name for r in manifest.rotations if not r.spec)
        self._made: dict[tuple[str, str, bytes], tuple[np.ndarray, np.ndarray]] = {}

    def rotated(self, site: Site, unrotated: np.ndarray, positions: np.ndarray) -> np.ndarray | None:
        """float64 [B, N, S, H] from unrotated [B, N, S, H] and positions [B, S]; None where no rule is known."""
        if site.spec not in self._specs:
            return None
        cos, sin = (
            table[positions][:, None].astype(np.float64) for table in self._tables(site, positions, self._angles)
        )
        interleaved = self._specs[site.spec].interleaved
        return rotate(unrotated.astype(np.float64), cos, sin, interleaved=interleaved)

    def slack(self, site: Site, want: np.ndarray, positions: np.ndarray) -> np.ndarray | float:
        """How far tables better than PyTorch's may take a site from PyTorch's `want` [B, N, S, H]: [B, S].

        Zero for `--angles model`. For `--angles float64` it follows from the difference between the two tables:
        |Δcos·a| + |Δsin·b| for the largest elements of the token.
        """
        if self._angles == "model" or site.spec not in self._specs:
            return 0.0
        ours, theirs = self._tables(site, positions, self._angles), self._tables(site, positions, "model")
        gap = sum(np.abs(a[positions].astype(np.float64) - b[positions]).max(axis=-1) for a, b in zip(ours, theirs))
        return gap * np.sqrt(2) * np.abs(np.nan_to_num(want, posinf=0, neginf=0)).max(axis=(1, 3))

    def _tables(self, site: Site, positions: np.ndarray, angles: str) -> tuple[np.ndarray, np.ndarray]:
        spec = self._specs[site.spec]
        length = int(positions.max()) + 1 if spec.depends_on_length else None
        key = (site.spec, angles, spec.inv_freq(length).tobytes())
        if key not in self._made:
            self._made[key] = tables(spec, self._rows, angles=angles, seq_len=length)
        return self._made[key]
