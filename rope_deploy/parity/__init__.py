"""Prove that a runtime computes what PyTorch computes: cases, comparisons, an oracle in float64. See `run_cases.py`."""

from rope_deploy.parity.cases import Case, Set, cases_for
from rope_deploy.parity.run_cases import PROSE, Outcome, check

__all__ = ["PROSE", "Case", "Outcome", "Set", "cases_for", "check"]
