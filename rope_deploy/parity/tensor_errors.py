"""The errors of one tensor against another, token by token. Numpy alone; nothing here decides what to compare.

Shapes: B rows, S tokens, N heads, H head_dim, T cache rows. Errors are absolute differences in float64; a value that
is not finite where a real token stands is an infinite error, unless both sides hold the same infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rope_deploy.artifact import Site

Tensors = Mapping[str, np.ndarray]


def token_errors(got: np.ndarray, want: np.ndarray, token_axis: int) -> np.ndarray:
    """Largest error of each token, [B, S]; both tensors have B first and S at `token_axis`, and one shape."""
    got, want = np.moveaxis(got, token_axis, 1), np.moveaxis(want, token_axis, 1)
    with np.errstate(invalid="ignore"):
        gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
    gap = np.where(got == want, 0.0, gap)
    return np.where(np.isnan(gap), np.inf, gap).reshape(*gap.shape[:2], math.prod(gap.shape[2:])).max(axis=2, initial=0)


def rms_errors(got: np.ndarray, want: np.ndarray, token_axis: int) -> np.ndarray:
    """Root mean square error of all elements of each token, [B, S]; `token_errors` is that of the worst element."""
    gap = np.moveaxis(got.astype(np.float64) - want.astype(np.float64), token_axis, 1)
    size = max(1, math.prod(gap.shape[2:]))
    return np.sqrt(np.square(gap).reshape(*gap.shape[:2], -1).sum(axis=2) / size)


def largest_elements(reference: np.ndarray, token_axis: int) -> np.ndarray:
    """Largest finite element of each token, [B, S]; B first and S at `token_axis`."""
    values = np.abs(np.nan_to_num(np.moveaxis(reference, token_axis, 1).astype(np.float64), posinf=0.0, neginf=0.0))
    return values.reshape(*values.shape[:2], math.prod(values.shape[2:])).max(axis=2, initial=0)


def product_errors(products: np.ndarray, query: np.ndarray, keys: np.ndarray, sees: np.ndarray) -> np.ndarray:
    """The error of a q that is only seen through its products q·k, in units of q: [B, S].

    products [B, N, S, T]; query [B, N, S, H] and keys [B, Nkv, T, H] that they should come from; sees [B, S, T], the
    keys each query looks at. |Δ(q·k)| / |k| is the part of |Δq| along that key, so this is the largest error that
    those keys can show.
    """
    return product_errors_by_head(products, query, keys, sees).max(axis=1)


def dot_products(query: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """q·k for every key, float64 [B, N, S, T], of query [B, N, S, H] and keys [B, Nkv, T, H]."""
    shared = np.repeat(keys, query.shape[1] // keys.shape[1], axis=1).astype(np.float64)
    return query.astype(np.float64) @ shared.swapaxes(2, 3)


def product_errors_by_head(products: np.ndarray, query: np.ndarray, keys: np.ndarray, sees: np.ndarray) -> np.ndarray:
    """`product_errors` of each head: [B, N, S]."""
    keys = np.repeat(keys, query.shape[1] // keys.shape[1], axis=1).astype(np.float64)
    length = np.maximum(np.linalg.norm(keys, axis=-1), np.finfo(np.float32).tiny)
    with np.errstate(all="ignore"):  # what a query does not see may be anything
        gap = np.abs(products - query.astype(np.float64) @ keys.swapaxes(2, 3)) / length[:, :, None, :]
    gap = np.where(sees[:, None], gap, 0.0)
    return np.where(np.isnan(gap), np.inf, gap).max(axis=3)


def cut_to_site(want: np.ndarray, site: Site, got: np.ndarray) -> np.ndarray | None:
    """PyTorch's heads [B, N, S, D] cut to the elements that a site rotates; None where the shapes cannot fit."""
    part = site_slice(want, site, got)
    return None if part is None else want[..., part]


def site_slice(want: np.ndarray, site: Site, got: np.ndarray) -> slice | None:
    """Which elements of PyTorch's heads [B, N, S, D] a site rotates; None where the shapes cannot fit.

    A site may rotate a slice of the head (D > H: the first or the last H elements, whichever are closer), and one key
    that all heads share.
    """
    batch, heads, tokens, width = want.shape
    if got.shape != (batch, site.num_heads, tokens, site.head_dim) or width < site.head_dim:
        return None
    if heads != site.num_heads and site.num_heads != 1:
        return None
    slices = (slice(0, site.head_dim), slice(width - site.head_dim, width))
    if width == site.head_dim:
        return slices[0]
    # By the mean of all elements: padding may hold anything, on either side.
    gaps = [np.nan_to_num(want[..., end] - got, nan=0.0, posinf=0.0, neginf=0.0) for end in slices]
    return slices[int(np.argmin([np.abs(gap).mean() for gap in gaps]))]


def magnitude(reference: np.ndarray) -> float:
    """The largest finite element of a tensor, at least 1: errors of later layers are measured relative to it.

    Every layer rounds, so that its output is off in proportion to its size, not by an absolute amount.
    """
    return max(1.0, largest_element(reference))


def largest_element(reference: np.ndarray) -> float:
    """The largest finite element of a tensor."""
    return float(np.abs(reference, where=np.isfinite(reference), out=np.zeros(reference.shape)).max(initial=0.0))


def evened_by_median(value: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`value` [B, S, …], each element divided by how many times it is larger in `reference` than its token's median.

    An error grows with the element it is an error of. Without this, one logit of a million would hide what is wrong
    with all other logits of its token.
    """
    large = np.abs(np.nan_to_num(reference.astype(np.float64), posinf=0.0, neginf=0.0))
    middle = np.median(large, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return value / np.where(middle > 0, np.maximum(large / np.where(middle > 0, middle, 1.0), 1.0), 1.0)
