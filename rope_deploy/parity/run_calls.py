"""The calls of a case, one after another, each going on from the cache of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from rope_deploy.artifact import TOLERANCES, Manifest
from rope_deploy.parity.case_calls import Call, calls_for
from rope_deploy.parity.cases import Case
from rope_deploy.parity.oracle import UNIT_ROUNDOFF, Oracle
from rope_deploy.parity.rounding_chance import Chance, Patience, allowed, ratios
from rope_deploy.runtimes import Arrays, Runtime, as_past, empty_past, in_cache_layout

# With the largest number, where it is not that of the type that is exact for it.
LARGEST = {"float16": 65504.0, "bfloat16": np.inf, "float32": float(np.finfo(np.float32).max)}
HALVES = ("float16", "bfloat16")
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Pair:
    """Who is compared with whom (`reference` None: with the oracle alone), on which graph, and what is fed.

    `exact` is the reference in a wider type, see `parity.chance`: asked in every call where the graph is in a half
    type, and in float32 where a fixed tolerance is exceeded. None: what exceeds a tolerance has failed.
    `in_proportion`: of small tensors less is tolerated.
    """

    manifest: Manifest
    reference: Runtime | None
    exact: Runtime | None
    candidate: Runtime
    oracle: Oracle
    seed: int
    text: Sequence[int]
    patience: Patience = field(default_factory=Patience)
    in_proportion: bool = False


@dataclass
class Step:
    """A call, the position of every cache row [B, T], the candidate's feeds and what the reference answers.

    `truth` is what the reference answers in a wider type, from the same past, and `chance` what it might have answered;
    {} and None where fixed tolerances hold. `exactly` makes them for a call in float32; None in half types, which have
    them, and where nothing excuses an error. `ratios` gathers, by kind, how much further from the truth the candidate's
    tokens are than PyTorch's (see `chance.ratios`). `in_proportion` as in `Pair`.
    The call that a runtime must refuse is not put to the reference: `want` is then empty, as without one. Whoever
    runs the step leaves the candidate's answer in `got`: without a reference the next step goes on from it.
    """

    call: Call
    columns: np.ndarray
    feeds: Arrays
    want: Arrays
    refused: bool
    truth: Arrays = field(default_factory=dict)
    chance: Chance | None = None
    unit: float = 0.0
    exactly: Callable[[], tuple[Arrays, Chance]] | None = None
    in_proportion: bool = False
    ratios: dict[str, list[np.ndarray]] = field(default_factory=dict)
    got: Arrays = field(default_factory=dict)

    @property
    def standard(self) -> Arrays:
        """What the candidate's answer is compared with."""
        return self.truth or self.want

    def against_truth(self) -> Step:
        """The same call in float32, judged as one in a half type is."""
        truth, chance = self.exactly()
        return replace(self, truth=truth, chance=chance, exactly=None, ratios={})

    def fixed(self, tolerance: float, size: float) -> float:
        """A fixed tolerance of a tensor whose largest element is `size`: of one that is small, less, in proportion."""
        return max(tolerance * min(1.0, size), SMALLEST) if self.in_proportion else tolerance

    def tolerance(
        self,
        kind: str,
        fixed: float | np.ndarray,
        ours: np.ndarray,
        real: np.ndarray,
        least: Callable[[], np.ndarray],
        apart: Callable[[Arrays], np.ndarray],
    ) -> np.ndarray:
        """How far tokens may be from the standard, [B, S]: `fixed` in float32, else as `parity.chance` has it.

        `ours` are the candidate's errors and `apart` gives those of an answer of PyTorch; `least` is the largest
        element of each token, in the same units.
        """
        if self.chance is None:
            return np.broadcast_to(fixed, ours.shape)
        theirs, smallest = apart(self.want), least() * self.unit
        self.ratios.setdefault(kind, []).append(ratios(ours, theirs, smallest, real))
        return allowed(ours, theirs, smallest, real, (apart(other) for other in self.chance))


def exact_of(reference: Runtime | None, manifest: Manifest) -> Runtime | None:
    """The reference in a wider type, as `Pair` has it."""
    if reference is None:
        return None
    if manifest.dtype in HALVES:  # not asked for softly: one that hid its own precision would be taken for the truth
        return reference.exact
    return getattr(reference, "exact", None) if comparable(manifest) else None


def comparable(manifest: Manifest) -> bool:
    """Whether PyTorch's own error is a measure of this graph's, and nobody stated a tolerance, which holds as it is.

    Not where the graph's angles are others than PyTorch's: what that does to results is not known.
    """
    repeated = manifest.angles == "model" and all(one.cos_sin != "computed" for one in manifest.rotations)
    return repeated and manifest.tolerances == TOLERANCES[manifest.dtype]


def walk(case: Case, pair: Pair) -> Iterator[Step]:
    """Goes on from the reference's cache, as the candidate's attention keeps it, or else from the candidate's own."""
    manifest, rows = pair.manifest, len(case.lengths)
    past, columns = empty_past(manifest, rows), np.zeros((rows, 0), np.int64)
    for number, call in enumerate(calls_for(case, manifest, pair.seed, pair.text)):
        columns = np.concatenate([columns, call.position_ids], axis=1)
        refused, kept = case.refusal is not None and number == len(case.later), past
        want, truth, chance = {}, {}, None
        if pair.reference is not None:
            kept = in_cache_layout(manifest, past, call.attention_mask[:, : -call.tokens])
        exactly = None
        if pair.reference is not None and not refused:
            asked = call.feeds(manifest, past)
            want = pair.reference.run(asked, taps=True)
            exactly = None if pair.exact is None else partial(_exactly, pair, asked, want)
            if exactly is not None and manifest.dtype in HALVES:
                (truth, chance), exactly = exactly(), None
        unit, fed = UNIT_ROUNDOFF[manifest.dtype], call.feeds(manifest, kept)
        step = Step(call, columns, fed, want, refused, truth, chance, unit, exactly, pair.in_proportion)
        yield step
        # The model as transformers runs it keeps its cache to itself.
        answer = step.got if case.untouched else want or step.got
        if manifest.cache and answer:
            if any(name not in answer for name in manifest.present_names):
                return  # the step has failed, and there is nothing to go on from
            past = as_past(manifest, answer)


def _exactly(pair: Pair, asked: Arrays, want: Arrays) -> tuple[Arrays, Chance]:
    truth = _held(pair.exact.run(asked, taps=True), want, LARGEST[pair.manifest.dtype])
    return truth, Chance(partial(pair.reference.perturbed, asked), pair.patience)


def _held(truth: Arrays, narrow: Arrays, largest: float) -> Arrays:
    """The truth as far as the narrow type can hold it: beyond, e.g. where a mask is the type's own smallest number, it
    is what PyTorch makes of it."""
    return {
        name: np.where(np.abs(value) > largest, narrow[name], value) if value.shape == narrow[name].shape else value
        for name, value in truth.items()
        if name in narrow
    }
