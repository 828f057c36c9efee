"""Name the mistake a rotation makes, from its observed input and output. Needs numpy and the mathematics alone.

The flow, one module a step:

    observation.py        what a check or an audit saw of one site in one call
    evidence.py           all observations of one site, its stated rule, and what can be measured from both
    hypothesis.py         what a site might have done, and how much of the evidence that leaves unexplained (residual)
    *_mistakes.py         generators of mistakes, one file a kind; known_mistakes.py lists them in the order of trial
    without_rule.py       mistakes of a site without a rule, made of measured angles; parity tries them
    best_explanation.py   the first mistake that explains a site
    diagnose.py           one record for each mistake, with the sites that share it
"""

from rope_deploy.diagnosis.diagnose import diagnose
from rope_deploy.diagnosis.observation import Observation

__all__ = ["Observation", "diagnose"]
