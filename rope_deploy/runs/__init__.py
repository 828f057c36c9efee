"""Whole runs: open what is asked for, let parity, bench and generation judge it, and collect one report."""

from rope_deploy.runs.bench import bench_artifacts
from rope_deploy.runs.check import check_artifacts
from rope_deploy.runs.ci import run_config
from rope_deploy.runs.inspection import Inspection, inspect_subject

__all__ = ["Inspection", "bench_artifacts", "check_artifacts", "inspect_subject", "run_config"]
