"""The angles by which PyTorch rotated, measured from its own tensors; and a site beside PyTorch's rotation.

Where no rule is stated, e.g. for the rows and columns of a tower, but PyTorch's own rotation was seen, its angles are
measured from its input and output, in float64. The site's own input rotated by them is what the site must give, so that
no error of an earlier layer is attributed to it. And a rotation keeps lengths, up to one factor.

Shapes: x before and y after a rotation, [B, N, S, H].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rope_deploy.artifact import Manifest, Rotation, Site
from rope_deploy.parity.difference import Difference, worst_element
from rope_deploy.parity.tensor_errors import Tensors
from rope_deploy.parity.tolerances import MEASURABLE_PAIR
from rope_deploy.rope import rotate


@dataclass(frozen=True)
class ObservedRotation:
    """A site in one call: x and y, [B, N, S, H], before and after its rotation, the runtime's and PyTorch's (None where
    that was not seen)."""

    site: Site
    rotation: Rotation
    ours: tuple[np.ndarray, np.ndarray]
    theirs: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, manifest: Manifest, site: Site, got: Tensors, want: Tensors) -> ObservedRotation | None:
        """A site of a tower; None where the runtime shows nothing of it."""
        names = [f"{state}.{site.key}" for state in ("unrotated", "rotated")]
        if any(name not in got for name in names):
            return None
        ours, theirs = (got[names[0]], got[names[1]]), None
        rotation = next(one for one in manifest.rotations if one.name == site.rotation)
        if all(name in want for name in names):
            given, rotated = (want[name] for name in names)
            if rotation.element_order and given.shape[-1] == len(rotation.element_order):
                given, rotated = (side[..., list(rotation.element_order)] for side in (given, rotated))
            theirs = _arranged_as(ours[0], given, rotated)
        return cls(site, rotation, ours, theirs)

    @cached_property
    def exact(self) -> np.ndarray | None:
        """Our input rotated by PyTorch's angles, float64; None where these are not known."""
        return self.by_angles()

    def by_angles(self, unknown: float = 1.0) -> np.ndarray | None:
        """The same; `unknown` is the cosine of pairs too small to measure."""
        if self.theirs is None or not self.rotation.rotary_dim:
            return None
        interleaved = self.rotation.interleaved
        angles = measured_angles(*self.theirs, self.rotation.rotary_dim, interleaved=interleaved, unknown=unknown)
        return rotate(self.ours[0].astype(np.float64), *angles, interleaved=interleaved)

    def differences(self, tolerance: float) -> Iterator[Difference]:
        """Against PyTorch, against our input rotated by its angles, and the length of every vector."""
        x, y = self.ours
        if self.theirs is not None:
            yield worst_element("rotated", f"rotated.{self.site.key}", y, self.theirs[1], tolerance, self.site)
        if self.exact is not None:
            yield worst_element("oracle", f"oracle.{self.site.key}", y, self.exact, tolerance, self.site)
        before, after = (np.linalg.norm(side.astype(np.float64), axis=-1, keepdims=True) for side in (x, y))
        total = before.sum()
        factor = after.sum() / total if total and np.isfinite(total) else 1.0
        yield worst_element("invariant", f"norm.{self.site.key}", after, factor * before, tolerance, self.site)


def _arranged_as(ours: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """PyTorch's x and y in the shape of ours, [B, N, S, H]; None where they do not fit.

    A batch axis is added, and heads and tokens are exchanged if need be; tokens in front of or behind the others (a
    class token, registers) are left out if they are not rotated.
    """
    arrangements, tokens = [], ours.shape[2]
    for before, after in ((x, y), (x[None], y[None])):
        for arrange in (lambda t: t, lambda t: t.swapaxes(-3, -2)):
            for some in (slice(0, tokens), slice(-tokens, None)):
                if before.ndim == 4 and arrange(before)[:, :, some].shape == ours.shape:
                    arrangements.append((arrange(before)[:, :, some], arrange(after)[:, :, some]))
    # With as many heads as tokens both fit: the right one has the input that ours has.
    return min(arrangements, key=lambda one: float(np.abs(np.nan_to_num(one[0] - ours)).sum()), default=None)


def measured_angles(
    x: np.ndarray, y: np.ndarray, rotary_dim: int, *, interleaved: bool, unknown: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, float64 [B, 1, S, rotary_dim/2], of the rotation that made y of x, both [B, N, S, H].

    From all heads together, by least squares: cos = Σ (a a' + b b') / Σ (a² + b²), sin = Σ (a b' − b a') / Σ (a² + b²)
    for a pair (a, b) that became (a', b'). A pair that is nearly zero in every head gets the cosine `unknown` and the
    sine 0.
    """
    first, second = (slice(0, rotary_dim, 2), slice(1, rotary_dim, 2)) if interleaved else (
        slice(0, rotary_dim // 2), slice(rotary_dim // 2, rotary_dim)
    )  # fmt: skip
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b, c, d = x[..., first], x[..., second], y[..., first], y[..., second]
    size = (a * a + b * b).sum(axis=1, keepdims=True)
    known = size > (MEASURABLE_PAIR * np.abs(x).max(initial=0.0)) ** 2
    size = np.where(known, size, 1.0)
    cos = np.where(known, (a * c + b * d).sum(axis=1, keepdims=True) / size, unknown)
    sin = np.where(known, (a * d - b * c).sum(axis=1, keepdims=True) / size, 0.0)
    return cos, sin
