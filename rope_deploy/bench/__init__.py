"""How fast an artifact runs, next to others: interleaved timing; and what each needs by itself."""

from rope_deploy.bench.contestant_process import Alone, Job, run_alone
from rope_deploy.bench.latency import ROUNDS, Contestant, Workload, measure, workloads
from rope_deploy.bench.ratio_interval import FEWEST_ROUNDS, Interval, of_median, quotient
from rope_deploy.bench.remeasure import Rerun, measure_again, with_processor_ratios

__all__ = [
    "FEWEST_ROUNDS",
    "ROUNDS",
    "Alone",
    "Contestant",
    "Interval",
    "Job",
    "Rerun",
    "Workload",
    "measure",
    "measure_again",
    "of_median",
    "quotient",
    "run_alone",
    "with_processor_ratios",
    "workloads",
]
