"""How far two tensors lie apart, token by token. Numpy alone; nothing here decides what to compare.

Shapes: B rows, S tokens, N heads, H head_dim, T cache rows. Errors are absolute differences in float64; a value that
is not finite where a real token stands is an infinite error, unless both sides hold the same infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rope_deploy.artifact import Site

Kind = Literal["logits", "rotated", "oracle", "cache", "inputs", "invariant"]


@dataclass(frozen=True)
class Difference:
    """The worst token of one tensor: the one whose error is largest in proportion to its tolerance."""

    kind: Kind
    tensor: str
    error: float
    tolerance: float
    layer: int | None = None
    role: str | None = None
    batch: int | None = None
    position: int | None = None
    fault: str = ""

    @property
    def ratio(self) -> float:
        return self.error / self.tolerance if self.tolerance else (np.inf if self.error else 0.0)

    @property
    def failed(self) -> bool:
        return not self.error <= self.tolerance

    def words(self) -> str:
        """E.g. "k of layer 3 (rotated.3.k) is off by 0.12 (tolerance 0.0001) at batch 1, position 17"."""
        what = f"{self.role} of layer {self.layer} ({self.tensor})" if self.role else self.tensor
        place = "" if self.batch is None else f" at batch {self.batch}, position {self.position}"
        if self.fault:
            return f"{what}: {self.fault}{place}"
        return f"{what} is off by {self.error:.2g} (tolerance {self.tolerance:.2g}){place}"


def token_errors(got: np.ndarray, want: np.ndarray, token_axis: int) -> np.ndarray:
    """Largest error of each token, [B, S]; both tensors have B first and S at `token_axis`, and one shape."""
    got, want = np.moveaxis(got, token_axis, 1), np.moveaxis(want, token_axis, 1)
    with np.errstate(invalid="ignore"):
        gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
    gap = np.where(got == want, 0.0, gap)
    return np.where(np.isnan(gap), np.inf, gap).reshape(*gap.shape[:2], math.prod(gap.shape[2:])).max(axis=2, initial=0)


def typical_errors(got: np.ndarray, want: np.ndarray, token_axis: int) -> np.ndarray:
    """Root mean square error of each token, [B, S]: of all elements alike, where `token_errors` is of the worst."""
    gap = np.moveaxis(got.astype(np.float64) - want.astype(np.float64), token_axis, 1)
    size = max(1, math.prod(gap.shape[2:]))
    return np.sqrt(np.square(gap).reshape(*gap.shape[:2], -1).sum(axis=2) / size)


def largest(reference: np.ndarray, token_axis: int) -> np.ndarray:
    """Largest finite element of each token, [B, S]; B first and S at `token_axis`."""
    values = np.abs(np.nan_to_num(np.moveaxis(reference, token_axis, 1).astype(np.float64), posinf=0.0, neginf=0.0))
    return values.reshape(*values.shape[:2], math.prod(values.shape[2:])).max(axis=2, initial=0)


def product_errors(products: np.ndarray, query: np.ndarray, keys: np.ndarray, sees: np.ndarray) -> np.ndarray:
    """Error of a q that is only seen through its products q·k, [B, S], in units of q.

    products [B, N, S, T]; query [B, N, S, H] and keys [B, Nkv, T, H] that they should come from; sees [B, S, T], the
    keys each query looks at. |Δ(q·k)| / |k| is the part of |Δq| along that key, so this is the largest error that
    those keys can show.
    """
    return product_gaps(products, query, keys, sees).max(axis=1)


def products(query: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """q·k for every key, float64 [B, N, S, T], of query [B, N, S, H] and keys [B, Nkv, T, H]."""
    shared = np.repeat(keys, query.shape[1] // keys.shape[1], axis=1).astype(np.float64)
    return query.astype(np.float64) @ shared.swapaxes(2, 3)


def product_gaps(products: np.ndarray, query: np.ndarray, keys: np.ndarray, sees: np.ndarray) -> np.ndarray:
    """The same by head: [B, N, S]."""
    keys = np.repeat(keys, query.shape[1] // keys.shape[1], axis=1).astype(np.float64)
    length = np.maximum(np.linalg.norm(keys, axis=-1), np.finfo(np.float32).tiny)
    with np.errstate(all="ignore"):  # what a query does not see may be anything
        gap = np.abs(products - query.astype(np.float64) @ keys.swapaxes(2, 3)) / length[:, :, None, :]
    gap = np.where(sees[:, None], gap, 0.0)
    return np.where(np.isnan(gap), np.inf, gap).max(axis=3)


def like_site(want: np.ndarray, site: Site, got: np.ndarray) -> np.ndarray | None:
    """PyTorch's [B, N, S, D] at attention, cut to what a site rotates; None where the shapes cannot fit."""
    end = site_end(want, site, got)
    return None if end is None else want[..., end]


def site_end(want: np.ndarray, site: Site, got: np.ndarray) -> slice | None:
    """Which elements of PyTorch's heads [B, N, S, D] a site rotates; None where the shapes cannot fit.

    A site may rotate a slice of the head (D > H: the first or the last H elements, whichever is closer), and one key
    that all heads share.
    """
    batch, heads, tokens, width = want.shape
    if got.shape != (batch, site.num_heads, tokens, site.head_dim) or width < site.head_dim:
        return None
    if heads != site.num_heads and site.num_heads != 1:
        return None
    ends = (slice(0, site.head_dim), slice(width - site.head_dim, width))
    if width == site.head_dim:
        return ends[0]
    # Closer on the whole: what padding holds may be anything, on either side.
    gaps = [np.nan_to_num(want[..., end] - got, nan=0.0, posinf=0.0, neginf=0.0) for end in ends]
    return ends[int(np.argmin([np.abs(gap).mean() for gap in gaps]))]


def magnitude(reference: np.ndarray) -> float:
    """The largest element of a tensor, at least 1: what errors that travelled through a network are measured by.

    Every layer rounds, and what it passes on is off in proportion to its size, not by an absolute amount.
    """
    return max(1.0, size(reference))


def size(reference: np.ndarray) -> float:
    """The largest finite element of a tensor."""
    return float(np.abs(reference, where=np.isfinite(reference), out=np.zeros(reference.shape)).max(initial=0.0))


def evened(value: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`value` [B, S, …] with what is larger in `reference` than the median of its token made as large as the median.

    Errors grow with what they are errors of. Were they not measured so, one number of a million among the logits of a
    token would hide what is wrong with all others.
    """
    large = np.abs(np.nan_to_num(reference.astype(np.float64), posinf=0.0, neginf=0.0))
    middle = np.median(large, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return value / np.where(middle > 0, np.maximum(large / np.where(middle > 0, middle, 1.0), 1.0), 1.0)


def worst(
    kind: Kind,
    tensor: str,
    errors: np.ndarray,
    tolerance: float | np.ndarray,
    *,
    real: np.ndarray,
    positions: np.ndarray,
    layer: int | None = None,
    role: str | None = None,
) -> Difference:
    """The worst real token of errors [B, S]; tolerance is a number or one per token."""
    tolerances = np.broadcast_to(tolerance, errors.shape).astype(np.float64)
    ratio = np.where(real, errors / tolerances, -1.0)
    row, token = np.unravel_index(ratio.argmax(), ratio.shape)
    error = float(errors[row, token])
    return Difference(
        kind=kind,
        tensor=tensor,
        error=error,
        tolerance=float(tolerances[row, token]),
        layer=layer,
        role=role,
        batch=int(row),
        position=int(positions[row, token]),
        fault="" if np.isfinite(error) else "a value is not finite",
    )


def missing(kind: Kind, tensor: str, fault: str, layer: int | None = None, role: str | None = None) -> Difference:
    """A tensor that is absent or has the wrong shape: as wrong as can be."""
    return Difference(kind, tensor, np.inf, 0.0, layer, role, fault=fault)


def shape_fault(value: np.ndarray | None, shape: tuple[int | str, ...]) -> str:
    """What is wrong with what a runtime returned, "" if its shape is right."""
    if value is None:
        return "the runtime did not return it"
    return "" if value.shape == shape else f"shape {value.shape} instead of {shape}"
