"""Prove that a runtime computes what PyTorch computes: cases, comparison, an fp64 oracle."""

from rope_deploy.parity.cases import Case, Set, cases_for
from rope_deploy.parity.findings import CaseResult
from rope_deploy.parity.run_cases import PROSE, Outcome, check, run_case

__all__ = ["PROSE", "Case", "CaseResult", "Outcome", "Set", "cases_for", "check", "run_case"]
