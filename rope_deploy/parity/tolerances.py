"""How far anything may be from the reference or the oracle: every number that decides a verdict of a check.

Other modules measure errors; this one says which are allowed, and why. (Tables are judged without running them by
`audit/table_tolerances.py`.) Four questions:

1. Results, q, k and the cache against PyTorch. The fixed tolerances by dtype are `artifact.TOLERANCES`, which the
   manifest states too; a command may give others, and a check never takes those of a manifest. That of logits is
   absolute; that of q, k and the cache is relative to the largest element of the tensor, if that is above 1. Of
   tensors whose largest element is below 1 less is tolerated, in proportion (`fixed_tolerance`).

2. One rotation against the oracle, which rotates the site's own input in float64. With u the unit roundoff of the
   graph's dtype (2^-24, 2^-11, 2^-8) and m the largest element of the token, for one element y = a·cos − b·sin with
   |a|, |b| ≤ m:

    tables      cos and sin rounded once each          |a|·u + |b|·u         ≤ 2 u m
    products    a·cos and b·sin rounded                |a cos|·u + |b sin|·u ≤ √2 u m
    sum         rounded                                |y|·u                 ≤ √2 u m
    attention_scaling, folded into the tables          one rounding more of each ≤ 2 u m
                                                                    total ≤ 6.9 u m → ROUNDINGS = 8

   where the values of the tables are those of the oracle before their rounding. With the model's own arithmetic the
   angle is a float32 product of the position p and a float32 frequency, and the oracle repeats both. Where the graph
   computes frequencies at run time it may round them otherwise: a power and a division, two units each
   (FREQUENCY_ROUNDINGS = 4), rotate the pair by up to 4·2^-24·p radians too far, and a rotation by δ moves an element
   by δ m.

   PyTorch computes the same rotation, and how far it is from the oracle at the same token is known. A site over the
   budget is still sound if it is no worse than WORSE_THAN_REFERENCE times that: PyTorch's error to one side, as much
   to the other. PyTorch excuses nothing beyond what float32 angles explain (for a model's own frequencies): a model
   that does not follow the rule must not hide a graph that does not either.

3. A run against the truth: as far as PyTorch's own run is, and what chance adds. In half types that is the only
   measure; in float32 it is asked where a fixed tolerance is exceeded, since PyTorch is as wrong as anybody where a
   model is ill-conditioned or its logits are large. The truth T is the model in float32 on the same half weights, and
   of a model in float32 the same in float64; G is the graph, P is PyTorch in the graph's type. Two such runs differ
   from each other by the noise of both, so that P can judge no one; but how far P is from T says how far this call's
   arithmetic leads, token by token. g and p are the largest errors of a token, |G − T| and |P − T|, neither taken for
   less than one rounding of the result itself.

    ln(g/p) of a sound graph scatters by SPREAD from token to token, and its mean over n tokens by SPREAD/√n. It lies
    at most at ln TWICE_ROUNDED, since a runtime may round twice where PyTorch rounds once. The bound is SURE such
    spreads above that:

        chance_bound(n) = TWICE_ROUNDED · exp(SURE · SPREAD / √n)   7.6 of one token, 2.1 of 17, 1.7 of 90, 1.4 of many

   One token may be chance_bound(1) times as far as P (or as a typical token of the call, if P happens to be nearer
   there), and n tokens together, in the geometric mean, chance_bound(n) times. Where two experts or two keys are
   nearly tied, the last bit decides, and one half run in many lands elsewhere altogether. So before a tensor is called
   wrong, PyTorch is run again with its roundings perturbed (`perturbed_runs.py`), up to PERTURBED_RUNS times: what
   lies within TWICE_ROUNDED times the distance of one of those runs is chance.

   SPREAD is measured; what the limits let through and find, too: benchmarks/results/mutation_smollm2.json.

4. What the messages and diagnoses of a check may conclude: a near tie of two logits, an error that a site added.

Shapes: B rows, S tokens, N heads, H head_dim; errors [B, S], tokens that do not count included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from rope_deploy.artifact import TOLERANCES, Manifest

HALF_TYPES = ("float16", "bfloat16")
UNIT_ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# The largest finite number; bfloat16's is that of float32, which is its truth, so that nothing exceeds it.
LARGEST_NUMBER = {"float16": 65504.0, "bfloat16": np.inf, "float32": float(np.finfo(np.float32).max)}
SMALLEST = float(np.finfo(np.float32).tiny)  # no tolerance is smaller

# 2. One rotation
ROUNDINGS = 8  # of tables, products and sum, for two elements of the largest size
FREQUENCY_ROUNDINGS = 4  # of a frequency computed at run time: a power and a division
WORSE_THAN_REFERENCE = 2  # times PyTorch's own error: it may err to one side, the graph to the other
REFERENCE_ANGLES = 2  # budgets where the angles are measured from PyTorch's tensors, which it has rounded itself
MEASURABLE_PAIR = 1e-3  # size of a pair relative to its tensor: the measured angle of a smaller one is noise

# 3. Chance
SPREAD = 0.42  # of ln(g/p) from token to token, on SmolLM2; on tiny models 0.2 to 0.4
SURE = 4  # spreads above what is expected of the noisiest sound runtime
TWICE_ROUNDED = math.sqrt(2)  # two independent roundings in place of one
PERTURBED_RUNS = 16
PATIENCE = 3  # calls that chance does not explain; after them it is no longer asked
TYPICAL_ROUNDING = 1 / 8  # of one rounding of the largest element: what typical elements of a token are rounded by
POOLED_UP_TO = 8  # budgets: a larger mistake shows in the worst element of each token, which then decides
TINY = np.finfo(np.float64).tiny

# 4. Conclusions
BEYOND_INPUT = 2.0  # times the difference of a site's input, each in its own tolerance: more is the rotation's own
AS_INEXACT = 2  # times as far from the rule as PyTorch: a graph up to there does what PyTorch does


def fixed_tolerance(tolerance: float, size: float, *, in_proportion: bool) -> float:
    """The tolerance of a tensor whose largest element is `size`; of a small tensor less, if `in_proportion`."""
    return max(tolerance * min(1.0, size), SMALLEST) if in_proportion else tolerance


def measured_by_reference(manifest: Manifest) -> bool:
    """Whether PyTorch's own error is a measure of this graph's.

    Not where the graph's angles are others than PyTorch's, since what that does to results is not known; and not where
    the command states tolerances, which hold as they are.
    """
    same_angles = manifest.angles == "model" and all(one.cos_sin != "computed" for one in manifest.rotations)
    return same_angles and manifest.tolerances == TOLERANCES[manifest.dtype]


def angle_rounding(positions: np.ndarray) -> np.ndarray:
    """Radians by which float32 frequencies may rotate a pair too far at `positions` [B, S] or [A, B, S]: [B, S]."""
    reach = positions.max(axis=0) if positions.ndim == 3 else positions
    return reach * (FREQUENCY_ROUNDINGS * UNIT_ROUNDOFF["float32"])


def rotation_budget(largest: np.ndarray, unit: float, angle_error: np.ndarray) -> np.ndarray:
    """How far a sound rotation may be from the oracle, whose largest element of each token is `largest`: [B, S]."""
    budget = largest * (ROUNDINGS * unit + angle_error)
    return np.maximum(budget, SMALLEST)  # of a token of zeros, too


def excused_by_reference(
    budget: np.ndarray, largest: np.ndarray, unit: float, positions: np.ndarray, reference_errors: np.ndarray
) -> np.ndarray:
    """`budget`, or as far as PyTorch's own rotation is from the oracle, as far as float32 angles explain it: [B, S]."""
    excusable = largest * (ROUNDINGS * unit + angle_rounding(positions))
    return np.maximum(budget, np.minimum(WORSE_THAN_REFERENCE * reference_errors, excusable))


def product_blur(head_dim: int) -> float:
    """How large an error of 1 in every element of q and k may look along a key."""
    return 2 * float(np.sqrt(head_dim))


def is_near_tie(margin: float, tolerance: float) -> bool:
    """Whether two logits are so close that errors within the tolerance of each may exchange them."""
    return margin <= 2 * tolerance


def chance_bound(tokens: int) -> float:
    """How many times as far from the truth as PyTorch `tokens` tokens may be together, in the geometric mean."""
    return TWICE_ROUNDED * math.exp(SURE * SPREAD / math.sqrt(tokens))


def allowed_by_chance(
    ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, real: np.ndarray, perturbed: Iterable[np.ndarray]
) -> np.ndarray:
    """How far each token may be from the truth, [B, S], given g, p and `least`, one rounding of each result.

    `perturbed` yields the errors of PyTorch's further runs, which are only made when needed. Where all tokens together
    are too far, the tolerance of each is so much smaller that the call fails by the same ratio.
    """
    least = np.maximum(least, TINY)
    finite = np.where(np.isfinite(theirs), theirs, 0.0)  # what PyTorch cannot compute excuses nobody
    counted = real & np.isfinite(ours) & (np.maximum(ours, finite) > 0)
    per_token = chance_bound(1) * np.maximum(np.maximum(finite, least), _typical(finite, least, counted))
    shift, together = _shift(ours, finite, least, counted), chance_bound(max(1, int(counted.sum())))
    others = iter(perturbed)
    while (np.where(real, ours, 0.0) > per_token).any() or shift > together:
        if (other := next(others, None)) is None:
            break
        other = np.where(np.isfinite(other), other, 0.0)
        per_token = np.maximum(per_token, TWICE_ROUNDED * other)
        together = max(together, TWICE_ROUNDED * _shift(other, finite, least, counted))
    return np.minimum(per_token, np.maximum(ours * together / shift, TINY)) if shift > together else per_token


def pooled_excess(
    ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, real: np.ndarray
) -> tuple[float, float | None]:
    """How many times the bound all tokens together are from the truth, and PyTorch's own error, in the root mean square
    of all tokens; None for the latter where they are within the bound."""
    least = np.maximum(least, TINY)
    counted = real & np.isfinite(ours) & np.isfinite(theirs) & (np.maximum(ours, theirs) > 0)
    beyond = _shift(ours, theirs, least, counted) / chance_bound(max(1, int(counted.sum())))
    if beyond <= 1:
        return beyond, None
    return beyond, float(np.sqrt(np.square(np.maximum(theirs, least)[counted]).mean()))


def log_ratios(ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, real: np.ndarray) -> np.ndarray:
    """ln(g/p) of every token that counts, [K]."""
    least = np.maximum(least, TINY)
    counted = real & np.isfinite(ours) & np.isfinite(theirs) & (np.maximum(ours, theirs) > 0)
    return np.log(np.maximum(ours, least)[counted] / np.maximum(theirs, least)[counted])


def _typical(theirs: np.ndarray, least: np.ndarray, counted: np.ndarray) -> float:
    """The geometric mean of PyTorch's errors."""
    return float(np.exp(np.log(np.maximum(theirs, least)[counted]).mean())) if counted.any() else 0.0


def _shift(ours: np.ndarray, theirs: np.ndarray, least: np.ndarray, counted: np.ndarray) -> float:
    """How many times as far from the truth tokens are as PyTorch's, in the geometric mean."""
    if not counted.any():
        return 1.0
    ratio = np.maximum(ours, least)[counted] / np.maximum(theirs, least)[counted]
    return float(np.exp(np.log(ratio).mean()))
