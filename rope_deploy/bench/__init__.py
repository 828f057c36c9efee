"""How fast an artifact runs, next to others: interleaved timing and a gate on ratios."""

from rope_deploy.bench.gate import ratio_gates
from rope_deploy.bench.latency import Contestant, measure

__all__ = ["Contestant", "measure", "ratio_gates"]
