"""How far from the truth a run may be: as far as PyTorch's own run is, and what chance adds.

In half types that is the only measure; in float32 it is asked where a fixed tolerance is exceeded.

The truth T is the model in float32 on the same half weights, and of a model in float32 the same in float64; G is the
graph, P is PyTorch in the graph's type. Two such runs differ from each other by the noise of both, so that P can judge
no one; but how far P is from T says how far this call's arithmetic leads, token by token. g and p are the largest
errors of a token, |G − T| and |P − T|, neither taken for less than one rounding of the result itself.

    ln(g/p) of a sound graph scatters by SPREAD from token to token, and its mean over n tokens by SPREAD/√n. It lies
    at most at ln WORSE, since a runtime may round twice where PyTorch rounds once. The limit is SURE such spreads
    above that:

        limit(n) = WORSE · exp(SURE · SPREAD / √n)      7.6 of one token, 2.1 of 17, 1.7 of 90, 1.4 of very many

    One token may be limit(1) times as far as P (or as a typical token of the call, if P happens to be nearer there),
    and n tokens together, in the geometric mean, limit(n) times.

    Where two experts or two keys are nearly tied, the last bit decides, and one half run in many lands elsewhere
    altogether. So before a tensor is called wrong, PyTorch is run again with its roundings fallen otherwise (see
    models/reference/shaken_roundings.py), up to RUNS times: what lies within WORSE times the distance of one of those
    runs is chance.

SPREAD is measured; what the limits let through and find, too: benchmarks/results/mutation_smollm2.json. Shapes:
[B, S], tokens that do not count included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from rope_deploy.runtimes import Arrays

SPREAD = 0.42  # of ln(g/p) from token to token, on SmolLM2; on tiny models 0.2 to 0.4
SURE = 4  # spreads above what is expected of the noisiest sound runtime
WORSE = math.sqrt(2)  # two independent roundings in place of one
RUNS = 16
PATIENCE = 3  # calls that chance does not explain; after them it is no longer asked
TINY = np.finfo(np.float64).tiny


def limit(tokens: int) -> float:
    """How many times as far from the truth as PyTorch `tokens` tokens may be together, in the geometric mean."""
    return WORSE * math.exp(SURE * SPREAD / math.sqrt(tokens))


@dataclass
class Patience:
    """How many more calls of a check may ask what chance does, and find that it does not explain them."""

    left: int = PATIENCE


@dataclass
class Chance:
    """One call asked again: what PyTorch answers with its roundings fallen otherwise. Runs are made when needed."""

    run: Callable[[int], Arrays]
    patience: Patience
    made: list[Arrays] = field(default_factory=list)
    closed: bool = False

    def __iter__(self) -> Iterator[Arrays]:
        yield from self.made
        while not self.closed and self.patience.left > 0 and len(self.made) < RUNS:
            self.made.append(self.run(len(self.made)))
            yield self.made[-1]

    def close(self) -> None:
        """The call is wrong for another reason, so that nothing hangs on chance."""
        self.closed = True

    def end(self, *, explained: bool) -> None:
        """At the end of a call; `explained`: nothing in it failed."""
        if self.made and not explained:
            self.patience.left -= 1


def allowed(
    ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, real: np.ndarray, again: Iterable[np.ndarray]
) -> np.ndarray:
    """How far each token may be from the truth, [B, S], given g and p and one rounding of each result, `least`.

    `again` yields the errors of PyTorch's further runs. Where all tokens together are too far, the tolerance of each
    is so much smaller that the call fails by the same ratio.
    """
    least = np.maximum(least, TINY)
    finite = np.where(np.isfinite(theirs), theirs, 0.0)  # what PyTorch cannot compute excuses nobody
    telling = real & np.isfinite(ours) & (np.maximum(ours, finite) > 0)
    per_token = limit(1) * np.maximum(np.maximum(finite, least), _typical(finite, least, telling))
    shift, together = _shift(ours, finite, least, telling), limit(max(1, int(telling.sum())))
    others = iter(again)
    while (np.where(real, ours, 0.0) > per_token).any() or shift > together:
        if (other := next(others, None)) is None:
            break
        other = np.where(np.isfinite(other), other, 0.0)
        per_token = np.maximum(per_token, WORSE * other)
        together = max(together, WORSE * _shift(other, finite, least, telling))
    return np.minimum(per_token, np.maximum(ours * together / shift, TINY)) if shift > together else per_token


def usual(ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, real: np.ndarray) -> tuple[float, float | None]:
    """How many times the limit all tokens together are from the truth; and, if they are beyond it, how far they would
    be as usual: PyTorch's own error, in the root mean square of all tokens."""
    least = np.maximum(least, TINY)
    telling = real & np.isfinite(ours) & np.isfinite(theirs) & (np.maximum(ours, theirs) > 0)
    beyond = _shift(ours, theirs, least, telling) / limit(max(1, int(telling.sum())))
    if beyond <= 1:
        return beyond, None
    return beyond, float(np.sqrt(np.square(np.maximum(theirs, least)[telling]).mean()))


def ratios(ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, real: np.ndarray) -> np.ndarray:
    """ln(g/p) of every token that tells, [K]."""
    least = np.maximum(least, TINY)
    telling = real & np.isfinite(ours) & np.isfinite(theirs) & (np.maximum(ours, theirs) > 0)
    return np.log(np.maximum(ours, least)[telling] / np.maximum(theirs, least)[telling])


def _typical(theirs: np.ndarray, least: np.ndarray, telling: np.ndarray) -> float:
    return float(np.exp(np.log(np.maximum(theirs, least)[telling]).mean())) if telling.any() else 0.0


def _shift(ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, telling: np.ndarray) -> float:
    """How many times as far from the truth tokens are as PyTorch's, in the geometric mean."""
    if not telling.any():
        return 1.0
    ratio = np.maximum(ours, least)[telling] / np.maximum(theirs, least)[telling]
    return float(np.exp(np.log(ratio).mean()))
