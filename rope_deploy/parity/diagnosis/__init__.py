"""Name the mistake: fit what a site did against every way a rotation is known to go wrong."""

from rope_deploy.parity.diagnosis.diagnose import diagnose
from rope_deploy.parity.diagnosis.observation import Observation
from rope_deploy.parity.diagnosis.tables import TableMistake, diagnose_table

__all__ = ["Observation", "TableMistake", "diagnose", "diagnose_table"]
