"""One rotation of a tower in one call: against PyTorch's, and against the angles that PyTorch turned by.

A tower's rows and columns have no rule in its manifest. But where PyTorch's own rotation was seen, its angles can be
read off what it was given and what it made of it, in float64. The site's own input turned by them is what the site
must give, so that no error of an earlier layer is laid at its door. And a rotation keeps lengths, up to one factor.

Shapes: x before and y after a rotation, [B, N, S, H].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rope_deploy.artifact import Manifest, Rotation, Site
from rope_deploy.parity.compare import Difference, magnitude, missing
from rope_deploy.rope import rotate

Tensors = Mapping[str, np.ndarray]

SMALLEST = 1e-3  # of a pair, relative to its tensor: the angle of less is noise


@dataclass(frozen=True)
class Turn:
    """A site of a tower in one call: x and y, [B, N, S, H], before and after its rotation, the runtime's and PyTorch's
    (None where they were not seen)."""

    site: Site
    rotation: Rotation
    ours: tuple[np.ndarray, np.ndarray]
    theirs: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, manifest: Manifest, site: Site, got: Tensors, want: Tensors) -> Turn | None:
        names = [f"{state}.{site.key}" for state in ("unrotated", "rotated")]
        if any(name not in got for name in names):
            return None
        ours, theirs = (got[names[0]], got[names[1]]), None
        rotation = next(one for one in manifest.rotations if one.name == site.rotation)
        if all(name in want for name in names):
            given, turned = (want[name] for name in names)
            if rotation.element_order and given.shape[-1] == len(rotation.element_order):
                given, turned = (side[..., list(rotation.element_order)] for side in (given, turned))
            theirs = _like(ours[0], given, turned)
        return cls(site, rotation, ours, theirs)

    @cached_property
    def exact(self) -> np.ndarray | None:
        """Our input turned by PyTorch's angles, float64; None where these are not known."""
        return self.by_angles()

    def by_angles(self, unknown: float = 1.0) -> np.ndarray | None:
        """The same; `unknown` is the cosine of pairs too small to tell."""
        if self.theirs is None or not self.rotation.rotary_dim:
            return None
        layout = self.rotation.interleaved
        angles = angles_of(*self.theirs, self.rotation.rotary_dim, interleaved=layout, unknown=unknown)
        return rotate(self.ours[0].astype(np.float64), *angles, interleaved=self.rotation.interleaved)

    def differences(self, tolerance: float) -> Iterator[Difference]:
        """Against PyTorch, against its angles, and the length of every vector."""
        x, y = self.ours
        if self.theirs is not None:
            yield apart("rotated", f"rotated.{self.site.key}", y, self.theirs[1], tolerance, self.site)
        if self.exact is not None:
            yield apart("oracle", f"oracle.{self.site.key}", y, self.exact, tolerance, self.site)
        before, after = (np.linalg.norm(side.astype(np.float64), axis=-1, keepdims=True) for side in (x, y))
        total = before.sum()
        factor = after.sum() / total if total and np.isfinite(total) else 1.0
        yield apart("invariant", f"norm.{self.site.key}", after, factor * before, tolerance, self.site)


def _like(ours: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """PyTorch's x and y laid out as ours [B, N, S, H]: a batch added, heads and tokens exchanged if need be, and
    tokens in front of or behind the others (of a class, registers) left out if they do not turn."""
    ways, tokens = [], ours.shape[2]
    for before, after in ((x, y), (x[None], y[None])):
        for turn in (lambda t: t, lambda t: t.swapaxes(-3, -2)):
            for some in (slice(0, tokens), slice(-tokens, None)):
                if before.ndim == 4 and turn(before)[:, :, some].shape == ours.shape:
                    ways.append((turn(before)[:, :, some], turn(after)[:, :, some]))
    # With as many heads as tokens both fit: it is the one that was given what we were given.
    return min(ways, key=lambda way: float(np.abs(np.nan_to_num(way[0] - ours)).sum()), default=None)


def angles_of(
    x: np.ndarray, y: np.ndarray, rotary_dim: int, *, interleaved: bool, unknown: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, float64 [B, 1, S, rotary_dim/2], of the rotation that made y of x, both [B, N, S, H].

    Of all heads together, by least squares: cos = Σ (a a' + b b') / Σ (a² + b²), sin = Σ (a b' − b a') / Σ (a² + b²)
    for a pair (a, b) that became (a', b'). The cosine of a pair that is next to nothing
    in every head is `unknown`; with 1 it keeps its place.
    """
    first, second = (slice(0, rotary_dim, 2), slice(1, rotary_dim, 2)) if interleaved else (
        slice(0, rotary_dim // 2), slice(rotary_dim // 2, rotary_dim)
    )  # fmt: skip
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b, c, d = x[..., first], x[..., second], y[..., first], y[..., second]
    size = (a * a + b * b).sum(axis=1, keepdims=True)
    known = size > (SMALLEST * np.abs(x).max(initial=0.0)) ** 2
    size = np.where(known, size, 1.0)
    cos = np.where(known, (a * c + b * d).sum(axis=1, keepdims=True) / size, unknown)
    sin = np.where(known, (a * d - b * c).sum(axis=1, keepdims=True) / size, 0.0)
    return cos, sin


def apart(
    kind, tensor: str, got: np.ndarray, want: np.ndarray, tolerance: float, site: Site | None = None
) -> Difference:
    """The worst element, named by its image and, of a site, by its token."""
    about = (None, None) if site is None else (site.layer, site.role)
    if got.shape != want.shape:
        return missing(kind, tensor, f"shape {got.shape} where {want.shape} was due", *about)
    with np.errstate(invalid="ignore"):
        gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
    gap = np.where(got == want, 0.0, np.where(np.isnan(gap), np.inf, gap))
    where = np.unravel_index(gap.argmax(), gap.shape) if gap.size else ()
    error = float(gap[where]) / magnitude(want) if gap.size else 0.0
    batch, position = (int(where[0]), int(where[2])) if site is not None and gap.size else (None, None)
    fault = "" if np.isfinite(error) else "a value is not finite"
    return Difference(kind, tensor, error, tolerance, *about, batch, position, fault)
