"""The result of comparing one site in one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rope_deploy.artifact import Site
from rope_deploy.diagnosis import Observation
from rope_deploy.parity.difference import Difference


@dataclass(frozen=True)
class SiteComparison:
    """One site in one call. `through`: it was seen by its "output", or by the "products" q·k of a fused attention.

    The case is judged by `differences`. `inputs` compares the site's input with that of PyTorch's rotation (None where
    that is not known); a difference there is no fault of the site. `observation` is for the diagnosis; None where no
    oracle could be asked. `positions`, `errors` and `ratios` [real tokens] hold the difference from PyTorch, and the
    error in units of its tolerance: against the oracle if there is one, else against PyTorch. `exactness` is the
    largest error against the oracle relative to the largest element, ours and PyTorch's own; None where it is not
    known. `named`: code and sentence of the mistake of a site without a rule, where PyTorch's angles show it.
    """

    site: Site
    through: str
    differences: tuple[Difference, ...]
    inputs: Difference | None
    observation: Observation | None
    positions: np.ndarray
    errors: np.ndarray
    ratios: np.ndarray
    exactness: tuple[float | None, float | None] = (None, None)
    named: tuple[str, str] | None = None

    def of_kind(self, kind: str) -> Difference | None:
        return next((difference for difference in self.differences if difference.kind == kind), None)

    @property
    def wrong(self) -> bool:
        """Whether it is in error against the oracle."""
        found = self.of_kind("oracle")
        return found is not None and found.failed


@dataclass(frozen=True)
class SiteMistake:
    """A site in error, the code of its mistake, a sentence about it, and the error in units of its tolerance."""

    site: Site
    code: str
    explanation: str
    error: float
