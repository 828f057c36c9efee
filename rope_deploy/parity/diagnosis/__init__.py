"""Name the mistake: fit what a site did against every way a rotation is known to go wrong."""

from rope_deploy.parity.diagnosis.diagnose import diagnose
from rope_deploy.parity.diagnosis.observation import Observation

__all__ = ["Observation", "diagnose"]
