"""Name the mistake: fit what a site did against every way a rotation is known to go wrong."""

from rope_deploy.diagnosis.diagnose_sites import diagnose
from rope_deploy.diagnosis.observation import Observation

__all__ = ["Observation", "diagnose"]
