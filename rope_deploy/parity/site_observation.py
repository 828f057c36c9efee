"""What a diagnosis is given of one site in one call.

Shapes: B rows, N heads, S tokens in the call, H head_dim, T columns of the mask so far.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from rope_deploy.artifact import Site
from rope_deploy.diagnosis import Observation
from rope_deploy.parity.case_inputs import Call
from rope_deploy.parity.site_view import SiteView, visible_keys
from rope_deploy.parity.tensor_errors import (
    Tensors,
    product_errors,
    product_errors_by_head,
    rms_errors,
    token_errors,
)

KEPT_HEADS = 8  # of each site, for the diagnosis


def observe(
    case: str,
    call: Call,
    site: Site,
    view: SiteView,
    got: Tensors,
    exact: np.ndarray,
    tolerance: np.ndarray,
    pooled: tuple[float, np.ndarray] | None = None,
) -> Observation | None:
    """The observation of a site whose output should be `exact`; None where its shapes do not fit.

    Of many heads it keeps the worst and a few others. `pooled`: where a rotation is a little wrong, the root mean
    square error of all tokens that would be as usual, and what one element may be off by, [B, S]; the budget is then
    the first of these, in place of `tolerance` [B, S].
    """
    unrotated = got[f"unrotated.{site.key}"]
    if (unrotated.shape[0], unrotated.shape[2]) != call.position_ids.shape:
        return None
    if view.through == "output":
        rotated = got[view.tensor]
        if rotated.shape != unrotated.shape:
            return None
        errors_by_head = np.where(call.real[:, None, :, None], np.abs(rotated - exact), 0.0).max(axis=(0, 2, 3))
        heads = kept_heads(errors_by_head)
        unrotated, rotated = unrotated[:, heads], rotated[:, heads]
        errors = partial(_output_errors, rotated) if pooled is None else partial(_pooled, rotated, call.real)
    else:
        keys, products, visible = got[f"present.{site.layer}.key"], got[view.tensor], visible_keys(call)
        heads = kept_heads(product_errors_by_head(products, exact, keys, visible).max(axis=(0, 2)))
        group = site.num_heads // keys.shape[1]
        unrotated, rotated, products = unrotated[:, heads], None, products[:, heads]
        keys = keys if isinstance(heads, slice) else keys[:, np.asarray(heads) // group]
        errors = partial(_product_errors, products, keys, visible)
    return Observation(
        case=case,
        site=site,
        unrotated=unrotated,
        rotated=rotated,
        positions=call.position_ids,
        axes=call.axes,
        mask=call.attention_mask,
        real=call.real,
        # Half of what is usual: what a diagnosis calls explained (see `best_explanation.py`) is then twice the usual.
        budget=tolerance if pooled is None else np.full(call.real.shape, pooled[0] / 2),
        element_budget=tolerance if pooled is None else pooled[1],
        errors=errors,
    )


def kept_heads(errors: np.ndarray) -> slice | list[int]:
    """All heads if they are few, else the worst and a spread of others, in order. `errors` [N]."""
    if len(errors) <= KEPT_HEADS:
        return slice(None)
    first = int(np.nan_to_num(errors, nan=np.inf).argmax())
    spread = np.linspace(0, len(errors) - 1, KEPT_HEADS).round().astype(int).tolist()
    return sorted({first, *[head for head in spread if head != first][: KEPT_HEADS - 1]})


def _output_errors(rotated: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return token_errors(rotated, expected, 2)


def _pooled(rotated: np.ndarray, real: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The root mean square error of all real tokens, for each of them."""
    errors = np.where(real, rms_errors(rotated, expected, 2), 0.0)
    return np.full(real.shape, np.sqrt(np.square(errors).sum() / max(1, real.sum())))


def _product_errors(products: np.ndarray, keys: np.ndarray, visible: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return product_errors(products, expected, keys, visible)
