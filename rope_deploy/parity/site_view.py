"""How a site is seen in a call: by its output, or by the products q·k of the fused attention that contains it.

Shapes: B rows, N heads, S tokens in the call, H head_dim, T columns of the mask so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rope_deploy.artifact import Site
from rope_deploy.parity.case_inputs import Call
from rope_deploy.parity.tensor_errors import (
    Tensors,
    cut_to_site,
    dot_products,
    largest_elements,
    product_errors,
    site_slice,
    token_errors,
)
from rope_deploy.parity.tolerances import product_blur
from rope_deploy.runtimes import to_compact


@dataclass(frozen=True)
class SiteView:
    """The tensor of the runtime by which a site is compared, and how errors are measured there.

    `errors(reference, keys)` compares the site with a reference [B, N, S, H]: [B, S], or None where the shapes do not
    fit; `keys` says whose keys go with that reference, "theirs" (the standard's) or "ours". `errors_of(answer)`
    compares an answer of PyTorch with the standard in the same way, and `largest()` is the largest element of each
    token of the standard as seen so. `blur`: how large an error of 1 in every element of q and k may look (1 when the
    output itself is seen).
    """

    through: str
    tensor: str
    errors: Callable[[np.ndarray, str], np.ndarray | None]
    errors_of: Callable[[Tensors], np.ndarray]
    largest: Callable[[], np.ndarray]
    blur: float = 1.0


def view_of(site: Site, call: Call, got: Tensors, standard: Tensors) -> SiteView | None:
    """The view of a site; None where the runtime shows nothing of it."""
    rotated = f"rotated.{site.key}"
    if rotated in got:
        ours = got[rotated]
        return SiteView(
            through="output",
            tensor=rotated,
            errors=lambda reference, _: output_errors(ours, reference, site),
            errors_of=lambda answer: reference_errors(ours, answer[rotated], standard[rotated], site),
            largest=lambda: largest_elements(standard[rotated], 2),
        )
    name, cache = f"products.{site.layer}", f"present.{site.layer}.key"
    if site.role != "q" or site.occurrence or name not in got:
        return None
    keys = {"ours": got[cache]}
    if cache in standard:
        keys["theirs"] = to_compact(standard[cache], call.attention_mask)
    visible = visible_keys(call)

    def errors_of(answer: Tensors) -> np.ndarray:
        products = dot_products(answer[rotated], to_compact(answer[cache], call.attention_mask))
        return product_errors(products, standard[rotated], keys["theirs"], visible)

    return SiteView(
        through="products",
        tensor=name,
        errors=lambda query, whose: product_errors(got[name], query, keys[whose], visible),
        errors_of=errors_of,
        largest=lambda: np.linalg.norm(standard[rotated].astype(np.float64), axis=-1).max(axis=1),
        blur=product_blur(site.head_dim),
    )


def visible_keys(call: Call) -> np.ndarray:
    """[B, S, T]: which rows of a compact cache each query attends to."""
    mask, tokens = call.attention_mask, call.tokens
    columns = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
    last = mask.shape[1] - tokens + np.arange(tokens)
    return (to_compact(mask, mask) == 1)[:, None, :] & (to_compact(columns, mask)[:, None, :] <= last[:, None])


def output_errors(ours: np.ndarray, reference: np.ndarray, site: Site) -> np.ndarray | None:
    """Our heads [B, N, S, H] against PyTorch's, [B, S]; None where the shapes do not fit."""
    # PyTorch's function may have been given only the elements that are rotated, our site the whole head.
    width = min(site.head_dim, reference.shape[-1])
    ours = ours[..., :width]
    fitted = cut_to_site(reference, replace(site, head_dim=width), ours)
    return None if fitted is None else token_errors(np.broadcast_to(ours, fitted.shape), fitted, 2)


def reference_errors(ours: np.ndarray, answer: np.ndarray, reference: np.ndarray, site: Site) -> np.ndarray:
    """An answer of PyTorch against the reference, in the elements that `output_errors` compares of ours."""
    width = min(site.head_dim, reference.shape[-1])
    part = site_slice(reference, replace(site, head_dim=width), ours[..., :width]) or slice(None)
    return token_errors(answer[..., part], reference[..., part], 2)
