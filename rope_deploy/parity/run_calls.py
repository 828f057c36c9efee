"""Run the reference on the calls of a case, one after another, each with the cache of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.parity.case_inputs import Call, calls_for
from rope_deploy.parity.cases import Case
from rope_deploy.parity.float64_oracle import Oracle
from rope_deploy.parity.perturbed_runs import Patience, PerturbedRuns
from rope_deploy.parity.tolerances import (
    HALF_TYPES,
    LARGEST_NUMBER,
    UNIT_ROUNDOFF,
    allowed_by_chance,
    fixed_tolerance,
    log_ratios,
    measured_by_reference,
)
from rope_deploy.runtimes import Arrays, Measurable, Reference, Runtime, as_past, empty_past, in_cache_layout


@dataclass(frozen=True)
class CheckSetup:
    """What a check compares, on which graph, and what is fed.

    `runtime` is under test. `reference` is PyTorch; None: the oracle alone. `exact` is the reference in a wider type,
    asked in every call where the graph is in a half type, and in float32 where a fixed tolerance is exceeded; None:
    what exceeds a tolerance has failed. `in_proportion`: of small tensors less is tolerated. See `tolerances.py`.
    """

    manifest: Manifest
    reference: Reference | Measurable | None
    exact: Runtime | None
    runtime: Runtime
    oracle: Oracle
    seed: int
    text: Sequence[int]
    patience: Patience = field(default_factory=Patience)
    in_proportion: bool = False


@dataclass
class CallRun:
    """One call: what the runtime is fed and what the reference answers.

    `columns` [B, T] are the positions of every cache row. `want` is the reference's answer; {} without a reference, and
    for the call that a runtime must refuse (`refused`). `got` is the runtime's answer, which whoever runs it puts here:
    without a reference the next call continues with its cache.

    `truth` is the reference's answer in a wider type, from the same past, and `perturbed` what it answers with other
    roundings; {} and None where fixed tolerances hold. `ask_truth` makes them for a call in float32; None in half
    types, which have them, and where nothing excuses an error. `ratios` gathers, by kind, how much further from the
    truth the runtime's tokens are than PyTorch's (`tolerances.log_ratios`). `unit` is the unit roundoff of the graph.
    """

    call: Call
    columns: np.ndarray
    feeds: Arrays
    want: Arrays
    refused: bool
    truth: Arrays = field(default_factory=dict)
    perturbed: PerturbedRuns | None = None
    unit: float = 0.0
    ask_truth: Callable[[], tuple[Arrays, PerturbedRuns]] | None = None
    in_proportion: bool = False
    ratios: dict[str, list[np.ndarray]] = field(default_factory=dict)
    got: Arrays = field(default_factory=dict)

    @property
    def standard(self) -> Arrays:
        """What the runtime's answer is compared with: the truth where it is known, else the reference's answer."""
        return self.truth or self.want

    def against_truth(self) -> CallRun:
        """The same call compared with the truth, as one in a half type is."""
        truth, perturbed = self.ask_truth()
        return replace(self, truth=truth, perturbed=perturbed, ask_truth=None, ratios={})

    def fixed(self, tolerance: float, size: float) -> float:
        """The fixed tolerance of a tensor whose largest element is `size`."""
        return fixed_tolerance(tolerance, size, in_proportion=self.in_proportion)

    def tolerance(
        self,
        kind: str,
        fixed: float | np.ndarray,
        ours: np.ndarray,
        real: np.ndarray,
        largest: Callable[[], np.ndarray],
        errors_of: Callable[[Arrays], np.ndarray],
    ) -> np.ndarray:
        """How far each token may be from the standard, [B, S]: `fixed`, or what chance allows where the truth is known.

        `ours` are the runtime's errors, and `errors_of` returns those of an answer of PyTorch; `largest` returns the
        largest element of each token, in the same units.
        """
        if self.perturbed is None:
            return np.broadcast_to(fixed, ours.shape)
        theirs, least = errors_of(self.want), largest() * self.unit
        self.ratios.setdefault(kind, []).append(log_ratios(ours, theirs, least, real))
        return allowed_by_chance(ours, theirs, least, real, (errors_of(other) for other in self.perturbed))


def exact_reference(reference: Reference | None, manifest: Manifest) -> Runtime | None:
    """The reference in a wider type, as `CheckSetup` has it."""
    if reference is None:
        return None
    if manifest.dtype in HALF_TYPES:  # it must have one: a half run by itself would be taken for the truth
        return reference.exact
    return reference.exact if measured_by_reference(manifest) else None


def run_calls(case: Case, setup: CheckSetup) -> Iterator[CallRun]:
    """Each call of `case` with the reference's answer; the caller runs the runtime and sets `got`.

    A call continues with the reference's cache, as the attention of the graph keeps it; without a reference, and for
    `untouched` cases, with the runtime's own.
    """
    manifest, rows = setup.manifest, len(case.lengths)
    past, columns = empty_past(manifest, rows), np.zeros((rows, 0), np.int64)
    for number, call in enumerate(calls_for(case, manifest, setup.seed, setup.text)):
        columns = np.concatenate([columns, call.position_ids], axis=1)
        refused, kept = case.refusal is not None and number == len(case.later), past
        want, truth, perturbed = {}, {}, None
        if setup.reference is not None:
            kept = in_cache_layout(manifest, past, call.attention_mask[:, : -call.tokens])
        ask_truth = None
        if setup.reference is not None and not refused:
            asked = call.feeds(manifest, past)
            want = setup.reference.run(asked, taps=True)
            ask_truth = None if setup.exact is None else partial(_truth, setup, asked, want)
            if ask_truth is not None and manifest.dtype in HALF_TYPES:
                (truth, perturbed), ask_truth = ask_truth(), None
        unit, feeds = UNIT_ROUNDOFF[manifest.dtype], call.feeds(manifest, kept)
        run = CallRun(call, columns, feeds, want, refused, truth, perturbed, unit, ask_truth, setup.in_proportion)
        yield run
        # The model as transformers runs it keeps its cache to itself.
        answer = run.got if case.untouched else want or run.got
        if manifest.cache and answer:
            if any(name not in answer for name in manifest.present_names):
                return  # the call has failed, and there is no cache to continue with
            past = as_past(manifest, answer)


def _truth(setup: CheckSetup, asked: Arrays, want: Arrays) -> tuple[Arrays, PerturbedRuns]:
    truth = _representable(setup.exact.run(asked, taps=True), want, LARGEST_NUMBER[setup.manifest.dtype])
    return truth, PerturbedRuns(partial(setup.reference.perturbed, asked), setup.patience)


def _representable(truth: Arrays, narrow: Arrays, largest: float) -> Arrays:
    """The truth, with PyTorch's own `narrow` answer where a number is too large for the narrow type, e.g. where a mask
    is the smallest number of its type."""
    return {
        name: np.where(np.abs(value) > largest, narrow[name], value) if value.shape == narrow[name].shape else value
        for name, value in truth.items()
        if name in narrow
    }
