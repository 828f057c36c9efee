"""What holds of every rotation, whatever its rule: for sites that no oracle can judge.

A rotation turns pairs of elements by an angle that grows with the position, lets the rest of the head pass, and may
multiply what it turns by one factor s (attention_scaling; cos² + sin² = s²). So

    origin   at position 0 nothing turns: every element is itself, or s times itself
    norm     a vector becomes at least min(1, s) and at most max(1, s) times as long
    scores   q·k depends on the difference of the positions alone

each within what rounding explains: an element is off by ROUNDINGS u m (see `oracle`), so a vector of H elements by
that times √H; float32 angles at position p are off by the turn that `oracle` allows for them. s is read off the
first token at position 0; before one was seen, lengths are not judged.

Shapes: x, y [B, N, S, H]: q or k before and after the rotation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.parity.calls import Call
from rope_deploy.parity.compare import Difference, worst
from rope_deploy.parity.oracle import ROUNDINGS, UNIT_ROUNDOFF, turn

Turns = dict[str, tuple[np.ndarray, np.ndarray]]  # by role: x and y


class Invariants:
    """Remembers, of one runtime, the factor of each rotation and the first prompt of each layer."""

    def __init__(self, manifest: Manifest):
        self._unit = ROUNDINGS * UNIT_ROUNDOFF[manifest.dtype]
        self._factors: dict[str, float] = {}
        self._first: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, Turns]] = {}

    def of_site(self, site: Site, call: Call, x: np.ndarray, y: np.ndarray) -> Iterator[Difference]:
        """Origin and norm, for the tokens they can be judged by."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        largest = np.maximum(np.abs(x).max(axis=(1, 3)), np.finfo(np.float32).tiny)
        start = call.real & (call.places.reshape(-1, *call.real.shape) == 0).all(axis=0)
        if start.any() and site.spec not in self._factors:
            self._factors[site.spec] = _factor(x, y, start, self._unit)
        if (factor := self._factors.get(site.spec)) is None:
            return
        about = {"positions": call.position_ids, "layer": site.layer, "role": site.role}
        if start.any():
            apart = np.minimum(np.abs(y - x), np.abs(y - factor * x)).max(axis=(1, 3))
            allowed = 2 * self._unit * largest * max(1.0, factor)
            yield worst("invariant", f"origin.{site.key}", apart, allowed, real=start, **about)
        before, after = (np.linalg.norm(side, axis=3) for side in (x, y))
        too_long, too_short = after - max(1.0, factor) * before, min(1.0, factor) * before - after
        apart = np.where(np.isfinite(after), np.maximum(too_long, too_short), np.inf).max(axis=1)
        allowed = 2 * self._unit * largest * max(1.0, factor) * np.sqrt(site.head_dim)
        yield worst("invariant", f"norm.{site.key}", apart.clip(0), allowed, real=call.real, **about)

    def of_scores(self, layer: int, call: Call, turns: Turns) -> Iterator[Difference]:
        """Scores of a prompt against those of the first one with the same q and k, its positions moved by a constant.

        Deeper layers are given almost the same; by how much they differ is allowed for.
        """
        if set(turns) != {"q", "k"} or not call.real.all() or call.tokens < 2:
            return
        positions = call.places
        turns = {role: (x.astype(np.float64), y.astype(np.float64)) for role, (x, y) in turns.items()}
        first, known = self._first.setdefault((layer, positions.shape), (positions, turns))
        if (gap := np.unique(positions - first)).size != 1 or gap[0] == 0:
            return
        moved = {role: np.abs(turns[role][0] - known[role][0]).max() for role in "qk"}
        length = {role: np.linalg.norm(turns[role][0], axis=3).max() for role in "qk"}
        size = {role: np.abs(turns[role][0]).max() for role in "qk"}
        if any(moved[role] > 0.01 * size[role] for role in "qk"):
            return  # other words: there is nothing to compare with
        factor = max(1.0, *self._factors.values()) ** 2
        # Of each: its own rounding on both sides, the angles' on both, and the difference of what it was given.
        off = {r: (2 * self._unit * size[r] + moved[r]) * turns[r][0].shape[3] ** 0.5 for r in "qk"}
        allowed = factor * (off["q"] * length["k"] + length["q"] * off["k"])
        allowed += factor * 2 * turn(positions.max()) * length["q"] * length["k"]
        ours, theirs = _scores(turns), _scores(known)
        apart = np.abs(ours - theirs).max(axis=(1, 3))
        about = {"real": call.real, "positions": call.position_ids, "layer": layer, "role": "q"}
        yield worst("invariant", f"scores.{layer}", apart, allowed, **about)


def _factor(x: np.ndarray, y: np.ndarray, start: np.ndarray, unit: float) -> float:
    """s: the ratio of the largest element that is not itself at position 0; 1 if all are."""
    before, after = (np.moveaxis(side, 1, 2)[start] for side in (x, y))
    scaled = np.abs(after - before) > 2 * unit * np.abs(before).max()
    if not scaled.any():
        return 1.0
    index = np.where(scaled, np.abs(before), -1.0).argmax()
    ratio = after.flat[index] / before.flat[index] if before.flat[index] else np.nan
    return float(ratio) if np.isfinite(ratio) and ratio > 0 else 1.0


def _scores(turns: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    query, keys = turns["q"][1], turns["k"][1]
    keys = np.repeat(keys, query.shape[1] // keys.shape[1], axis=1)
    return query @ keys.swapaxes(2, 3)
