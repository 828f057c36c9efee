"""Measure the latency of contestants in interleaved rounds, and the memory of each in a process of its own."""

from rope_deploy.bench.contestant_job import ContestantJob
from rope_deploy.bench.fresh_process import Comparison, measure_in_fresh_process, with_processor_ratios
from rope_deploy.bench.latency import Contestant, Workload, measure, workloads
from rope_deploy.bench.ratio_interval import Interval, median_interval, quotient_interval
from rope_deploy.bench.resource_use import ResourceUse, resource_use_in_child

__all__ = [
    "Comparison",
    "Contestant",
    "ContestantJob",
    "Interval",
    "ResourceUse",
    "Workload",
    "measure",
    "measure_in_fresh_process",
    "median_interval",
    "quotient_interval",
    "resource_use_in_child",
    "with_processor_ratios",
    "workloads",
]
