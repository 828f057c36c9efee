"""The difference of one tensor from what it is compared with: its worst token, and the tolerance there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rope_deploy.artifact import Site
from rope_deploy.parity.tensor_errors import magnitude

Kind = Literal["logits", "rotated", "oracle", "cache", "inputs", "invariant"]


@dataclass(frozen=True)
class Difference:
    """The worst token of one tensor: the one whose error is largest in proportion to its tolerance.

    `fault` says what makes the tensors incomparable, e.g. a wrong shape; "" if nothing does.
    """

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

    @property
    def text(self) -> str:
        """E.g. "k of layer 3 (rotated.3.k) is off by 0.12 (tolerance 0.0001) at batch 1, position 17"."""
        what = f"{self.role} of layer {self.layer} ({self.tensor})" if self.role else self.tensor
        where = "" if self.batch is None else f" at batch {self.batch}, position {self.position}"
        if self.fault:
            return f"{what}: {self.fault}{where}"
        return f"{what} is off by {self.error:.2g} (tolerance {self.tolerance:.2g}){where}"


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
    """The worst real token of `errors` [B, S]; `tolerance` is one number or one per token."""
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


def worst_element(
    kind: Kind, tensor: str, got: np.ndarray, want: np.ndarray, tolerance: float, site: Site | None = None
) -> Difference:
    """The worst element of `got` [B, …], relative to the magnitude of `want`; of a site [B, N, S, H] also its token."""
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


def missing(kind: Kind, tensor: str, fault: str, layer: int | None = None, role: str | None = None) -> Difference:
    """The difference of a tensor that is absent or has the wrong shape: infinite."""
    return Difference(kind, tensor, np.inf, 0.0, layer, role, fault=fault)


def shape_fault(value: np.ndarray | None, shape: tuple[int | str, ...]) -> str:
    """What is wrong with the tensor that a runtime returned; "" if its shape is right."""
    if value is None:
        return "the runtime did not return it"
    return "" if value.shape == shape else f"shape {value.shape} instead of {shape}"


def nearest_to_cause(failed: Iterable[Difference]) -> Difference:
    """The failed difference nearest to the cause: the lowest layer, a rotation before the cache, logits last."""
    return min(failed, key=lambda d: (d.kind == "logits", d.kind == "cache", d.layer or 0))
