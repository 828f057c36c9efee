"""How fast an artifact runs, next to others: interleaved timing."""

from rope_deploy.bench.latency import Contestant, measure

__all__ = ["Contestant", "measure"]
