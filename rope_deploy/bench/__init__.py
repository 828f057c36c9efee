"""How fast an artifact runs beside others, in interleaved rounds; and what memory each needs by itself."""

from rope_deploy.bench.contestant_job import ContestantJob
from rope_deploy.bench.fresh_process import Comparison, measure_in_fresh_process, with_processor_ratios
from rope_deploy.bench.latency import Contestant, Workload, measure, workloads
from rope_deploy.bench.ratio_interval import Interval, of_median, quotient
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
    "of_median",
    "quotient",
    "resource_use_in_child",
    "with_processor_ratios",
    "workloads",
]
