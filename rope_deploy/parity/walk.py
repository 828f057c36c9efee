"""The calls of a case, one after another, each going on from the cache of the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.parity.calls import Call, calls_for
from rope_deploy.parity.cases import Case
from rope_deploy.parity.invariants import Invariants
from rope_deploy.parity.oracle import Oracle
from rope_deploy.runtimes import Arrays, Runtime, as_kept, as_past, empty_past


@dataclass(frozen=True)
class Pair:
    """Who is compared with whom (`reference` None: with the oracle alone), on which graph, and what is fed."""

    manifest: Manifest
    reference: Runtime | None
    candidate: Runtime
    oracle: Oracle
    invariants: Invariants
    seed: int
    text: Sequence[int]


@dataclass
class Step:
    """A call, the position of every cache row [B, T], the candidate's feeds and what the reference answers.

    The call that a runtime must refuse is not put to the reference: `want` is then empty, as without one. Whoever
    runs the step leaves the candidate's answer in `got`: without a reference the next step goes on from it.
    """

    call: Call
    columns: np.ndarray
    feeds: Arrays
    want: Arrays
    refused: bool
    got: Arrays = field(default_factory=dict)


def walk(case: Case, pair: Pair) -> Iterator[Step]:
    """Goes on from the reference's cache, as the candidate's attention keeps it, or else from the candidate's own."""
    manifest, rows = pair.manifest, len(case.lengths)
    past, columns = empty_past(manifest, rows), np.zeros((rows, 0), np.int64)
    for number, call in enumerate(calls_for(case, manifest, pair.seed, pair.text)):
        columns = np.concatenate([columns, call.position_ids], axis=1)
        refused, want, kept = case.refusal is not None and number == len(case.later), {}, past
        if pair.reference is not None:
            kept = as_kept(manifest, past, call.attention_mask[:, : -call.tokens])
            want = {} if refused else pair.reference.run(call.feeds(manifest, past), taps=True)
        step = Step(call, columns, call.feeds(manifest, kept), want, refused)
        yield step
        if manifest.cache and (answer := want or step.got):
            if any(name not in answer for name in manifest.present_names):
                return  # the step has failed, and there is nothing to go on from
            past = as_past(manifest, answer)
