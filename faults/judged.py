"""Was a planted fault caught, and was it named?"""

from __future__ import annotations

from dataclasses import dataclass

from faults.mistakes import Fault
from rope_deploy.parity import Outcome


@dataclass(frozen=True)
class Judged:
    """`caught`: the check failed. `named`: it says this mistake, in these layers, and no other."""

    caught: bool
    named: bool
    message: str


def judged(outcome: Outcome, fault: Fault, layers: tuple[int, ...]) -> Judged:
    codes = {record.code for record in outcome.diagnoses}
    found = {layer for record in outcome.diagnoses for layer in record.layers}
    caught = outcome.failed or bool(outcome.diagnoses)
    seen = layers[:1] if fault.hides else layers
    named = codes == {fault.code} and found == {layer for layer in seen if layer >= 0}
    message = "; ".join(f"{r.code} {r.where}: {r.explanation}" for r in outcome.diagnoses)
    return Judged(caught, caught and named, message or "nothing")
