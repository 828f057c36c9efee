"""Time prefill and decode of several open runtimes in interleaved rounds, so that their ratios can be trusted.

Every round runs all contestants one after another, and each round begins with another one: a busy moment of the
machine, or its slow warming up, affects all. A ratio is the median of the ratios within each round, not the ratio of
medians taken minutes apart. Load by other processes does not affect all alike, so the time that each contestant
waited for a processor is reported too (`processor_contention.py`), and with one thread the ratio of processor times.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.bench.processor_contention import TimeSpent
from rope_deploy.bench.ratio_interval import Interval, median_interval
from rope_deploy.errors import UsageError
from rope_deploy.graph.analysis.vocabulary import FALLBACK_VOCABULARY
from rope_deploy.options import NOTHING_TO_TIME, BenchOptions, require_workloads
from rope_deploy.results.records import LatencyRecord
from rope_deploy.runtime_registry import ON_GPU
from rope_deploy.runtimes import Arrays, Runtime, as_past, counted_positions, empty_past

WARMUP = 2  # runs of each workload before the first that is timed


@dataclass(frozen=True)
class Contestant:
    """An open runtime (without taps), the manifest of the graph whose inputs it takes, and the style to report.

    Open every contestant with the same number of threads: `open_ort(…, threads=n)`, `open_torch(…, threads=n)`.
    """

    runtime: Runtime
    manifest: Manifest
    style: str = ""

    @property
    def label(self) -> str:
        """E.g. "ort/contrib", or "torch" where there is no style."""
        return f"{self.runtime.name}/{self.style}" if self.style else self.runtime.name


@dataclass(frozen=True)
class Workload:
    """`steps` runs of `tokens` each, one after another, on `past` tokens in the KV cache. `name` is LatencyRecord's."""

    name: str
    tokens: int
    past: int = 0
    steps: int = 1


def workloads(prompts: Sequence[int], new: int) -> tuple[Workload, ...]:
    """The workloads that are timed and profiled: a prefill of each length, and decoding `new` tokens after each."""
    prefill = [Workload(f"prefill {prompt}", prompt) for prompt in prompts]
    decode = [Workload(f"decode @{prompt}", 1, prompt, new) for prompt in prompts if new]
    return (*prefill, *decode)


def measure(
    contestants: Sequence[Contestant],
    *,
    prompts: Sequence[int] = BenchOptions.prompt,
    new: int = BenchOptions.new,
    rounds: int = BenchOptions.rounds,
    reference: str | None = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] = lambda workload, done, rounds: None,
) -> tuple[LatencyRecord, ...]:
    """Time a prefill of each length in `prompts`, and decoding `new` tokens after it: median, p10 and p90 in ms.

    Times of decoding are per token. Each decode round starts from the same KV cache and appends to it; graphs without
    one, and `new` = 0, skip it. `reference` is the label that ratios refer to, `threads` what the contestants were
    opened with. `progress(workload, rounds done, rounds)` is called after each round.

    Raises UsageError for an unknown reference, two contestants of one label, nothing to measure or more tokens than
    positions; and what a runtime raises.
    """
    _validate(contestants, prompts, new, rounds, reference)
    return tuple(
        record
        for workload in workloads(prompts, new)
        if (taking_part := [one for one in contestants if one.manifest.cache or not workload.past])
        for record in _timed(taking_part, workload, rounds, reference, threads, progress)
    )


def _timed(
    contestants: Sequence[Contestant],
    workload: Workload,
    rounds: int,
    reference: str | None,
    threads: int | None,
    progress: Callable[[str, int, int], None],
) -> list[LatencyRecord]:
    starts = {
        contestant.label: initial_past(contestant.runtime, contestant.manifest, workload) for contestant in contestants
    }
    for contestant in contestants:
        for _ in range(WARMUP):
            _run(contestant, workload, starts[contestant.label], TimeSpent())
    spent = {contestant.label: TimeSpent() for contestant in contestants}
    collecting = gc.isenabled()
    gc.disable()  # a collection would fall on whichever contestant runs
    try:
        for number in range(rounds):
            first = number % len(contestants)
            for contestant in (*contestants[first:], *contestants[:first]):
                _run(contestant, workload, starts[contestant.label], spent[contestant.label])
            progress(workload.name, number + 1, rounds)
    finally:
        if collecting:
            gc.enable()
    return [_record(contestant, workload, spent, reference, threads) for contestant in contestants]


def _run(contestant: Contestant, workload: Workload, past: Arrays, spent: TimeSpent) -> None:
    """Time all steps of a workload. Feeds are made before; each step takes the KV cache from the one before it."""
    manifest, runtime = contestant.manifest, contestant.runtime
    steps = [random_feeds(manifest, workload.tokens, workload.past + step) for step in range(workload.steps)]
    with spent.timed():
        for feeds in steps:
            outputs = runtime.run(feeds | past)
            past = as_past(manifest, outputs)


def _record(
    contestant: Contestant,
    workload: Workload,
    spent: Mapping[str, TimeSpent],
    reference: str | None,
    threads: int | None,
) -> LatencyRecord:
    own, other = spent[contestant.label], spent.get(reference or "")
    p10, median, p90 = np.percentile(np.array(own.wall) / workload.steps, (10, 50, 90)) * 1e3
    ratio = _ratio(own.wall, other.wall) if other else None
    # Several threads spend processor time on waiting by spinning.
    single = threads == 1 and contestant.runtime.name not in ON_GPU
    processor = _ratio(own.processor, other.processor) if other and single else None
    waiting = [one.waiting for one in (own, other) if one is not None and one.waiting is not None]
    return LatencyRecord(
        runtime=contestant.runtime.name,
        style=contestant.style,
        workload=workload.name,
        tokens=workload.tokens,
        rounds=len(own.wall),
        median_ms=float(median),
        p10_ms=float(p10),
        p90_ms=float(p90),
        ratio=ratio.value if ratio else None,
        ratio_low=ratio.low if ratio else None,
        ratio_high=ratio.high if ratio else None,
        reference=reference if ratio else "",
        threads=threads,
        processor_ratio=processor.value if processor else None,
        processor_ratio_low=processor.low if processor else None,
        processor_ratio_high=processor.high if processor else None,
        waiting=max(waiting, default=None),
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """The median of the rounds' ratios and its interval; None where a clock is so coarse that a time is 0."""
    if min(*ours, *theirs) <= 0:
        return None
    return median_interval([mine / other for mine, other in zip(ours, theirs, strict=True)])


def initial_past(runtime: Runtime, manifest: Manifest, workload: Workload) -> Arrays:
    """The KV cache that `workload` begins with, under its input names, computed by the runtime itself."""
    past = empty_past(manifest, 1)
    if not workload.past:
        return past
    return as_past(manifest, runtime.run(random_feeds(manifest, workload.past, 0) | past))


def random_feeds(manifest: Manifest, tokens: int, past: int) -> Arrays:
    """The inputs for random tokens after `past` others, without the KV cache; the same for one vocabulary and `past`.

    Shapes: input_ids [1, tokens], attention_mask [1, past + tokens], position_ids as the graph takes them.
    """
    total = past + tokens
    ids = np.random.default_rng(past).integers(0, manifest.vocab_size or FALLBACK_VOCABULARY, (1, tokens))
    made = {
        "input_ids": ids,
        "attention_mask": np.ones((1, total)),
        "position_ids": counted_positions(manifest, past, total),
    }
    types = {info.name: info.dtype for info in manifest.inputs}
    return {name: value.astype(types[name]) for name, value in made.items() if name in types}


def require_fit(label: str, manifest: Manifest, prompts: Sequence[int], new: int) -> None:
    """Raise UsageError if the longest of `prompts` and `new` tokens after it do not fit a graph's tables."""
    needed = max(prompts, default=0) + (new if manifest.cache else 0)
    if needed > manifest.max_position:
        raise UsageError(
            f"{needed} tokens do not fit {label}.",
            exists=f"It has {manifest.max_position} positions.",
            todo="Choose a shorter --prompt or --new, or export with a larger --max-position.",
        )


def _validate(
    contestants: Sequence[Contestant], prompts: Sequence[int], new: int, rounds: int, reference: str | None
) -> None:
    labels = [contestant.label for contestant in contestants]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"Two contestants are called {', '.join(twice)}.", todo="Give each a style of its own.")
    if reference is not None and reference not in labels:
        raise UsageError(f"There is no reference {reference!r}.", exists=f"There are {', '.join(labels)}.")
    if not labels:
        raise UsageError(NOTHING_TO_TIME)
    require_workloads(prompts, new, rounds)
    for contestant in contestants:
        require_fit(contestant.label, contestant.manifest, prompts, new)
