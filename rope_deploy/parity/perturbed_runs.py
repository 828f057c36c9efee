"""PyTorch run again with its roundings perturbed, to see whether a difference is chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rope_deploy.parity.tolerances import PATIENCE, PERTURBED_RUNS
from rope_deploy.runtimes import Arrays


@dataclass
class Patience:
    """How many more calls of a check may ask for perturbed runs that then do not explain them."""

    left: int = PATIENCE


@dataclass
class PerturbedRuns:
    """What PyTorch answers to one call with its roundings perturbed, one run a number. Runs are made when needed."""

    run: Callable[[int], Arrays]
    patience: Patience
    made: list[Arrays] = field(default_factory=list)
    closed: bool = False

    def __iter__(self) -> Iterator[Arrays]:
        yield from self.made
        while not self.closed and self.patience.left > 0 and len(self.made) < PERTURBED_RUNS:
            self.made.append(self.run(len(self.made)))
            yield self.made[-1]

    def close(self) -> None:
        """Make no more runs: the call is wrong for another reason."""
        self.closed = True

    def end(self, *, explained: bool) -> None:
        """End the call, and use up patience if runs were made in vain. `explained`: nothing in the call failed."""
        if self.made and not explained:
            self.patience.left -= 1
