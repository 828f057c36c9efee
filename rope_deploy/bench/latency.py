"""Time prefill and decode of several open runtimes, so that their ratios can be trusted.

All contestants take turns, round after round and starting with another one each time: a busy moment of the machine,
or its slow warming up, falls on all alike. A ratio is the median of the ratios within each round, not the ratio of
medians taken minutes apart.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.bench.spread import of_median
from rope_deploy.errors import UsageError
from rope_deploy.report.records import LatencyRecord
from rope_deploy.runtimes import Arrays, Runtime, as_past, counted, empty_past

FALLBACK_VOCABULARY = 100  # token ids every vocabulary has
WARMUP = 2
ROUNDS = 10


@dataclass(frozen=True)
class Contestant:
    """An open runtime (without taps), the manifest of the graph whose inputs it takes, and the style to report.

    Number of threads: open every contestant with the same, `open_ort(…, threads=n)` and `open_torch(…, threads=n)`.
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
    """`name` as in LatencyRecord; `steps` runs of `tokens` each, one after another, on `past` tokens in the cache."""

    name: str
    tokens: int
    past: int = 0
    steps: int = 1


def workloads(prompts: Sequence[int], new: int) -> tuple[Workload, ...]:
    """A prefill of each length, and decoding `new` tokens after each: what is timed, and what is profiled."""
    prefill = [Workload(f"prefill {prompt}", prompt) for prompt in prompts]
    decode = [Workload(f"decode @{prompt}", 1, prompt, new) for prompt in prompts if new]
    return (*prefill, *decode)


def measure(
    contestants: Sequence[Contestant],
    *,
    prompts: Sequence[int] = (128,),
    new: int = 16,
    rounds: int = ROUNDS,
    warmup: int = WARMUP,
    baseline: str | None = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] = lambda workload, done, rounds: None,
) -> tuple[LatencyRecord, ...]:
    """Median, p10 and p90 of a prefill of each length in `prompts`, and per token of decoding `new` tokens after it.

    Each decode round starts from the same cache and appends to it; graphs without a cache, and `new` = 0, skip it.
    `baseline` is the label that ratios refer to, `threads` what the contestants were opened with.
    `progress(workload, rounds done, rounds)` is called after each round.

    Raises UsageError for an unknown baseline, two contestants of one label, nothing to measure or more tokens than
    positions; and what a runtime raises.
    """
    _validate(contestants, prompts, new, rounds, baseline)
    return tuple(
        replace(record, threads=threads)
        for workload in workloads(prompts, new)
        if (taking_part := [one for one in contestants if one.manifest.cache or not workload.past])
        for record in _timed(taking_part, workload, rounds, warmup, baseline, progress)
    )


def _timed(
    contestants: Sequence[Contestant],
    workload: Workload,
    rounds: int,
    warmup: int,
    baseline: str | None,
    progress: Callable[[str, int, int], None],
) -> list[LatencyRecord]:
    starts = {contestant.label: start(contestant.runtime, contestant.manifest, workload) for contestant in contestants}
    for contestant in contestants:
        for _ in range(warmup):
            _seconds(contestant, workload, starts[contestant.label])
    spent: dict[str, list[float]] = {contestant.label: [] for contestant in contestants}
    collecting = gc.isenabled()
    gc.disable()  # a collection would fall on whoever's turn it is
    try:
        for number in range(rounds):
            turn = number % len(contestants)
            for contestant in (*contestants[turn:], *contestants[:turn]):
                spent[contestant.label].append(_seconds(contestant, workload, starts[contestant.label]))
            progress(workload.name, number + 1, rounds)
    finally:
        if collecting:
            gc.enable()
    return [_record(contestant, workload, spent, baseline) for contestant in contestants]


def _seconds(contestant: Contestant, workload: Workload, past: Arrays) -> float:
    """Seconds per step. The feeds are made beforehand, all but the cache, which each step takes from the one before."""
    manifest, runtime = contestant.manifest, contestant.runtime
    steps = [arrays(manifest, workload.tokens, workload.past + step) for step in range(workload.steps)]
    began = time.perf_counter()
    for feeds in steps:
        outputs = runtime.run(feeds | past)
        past = as_past(manifest, outputs)
    return (time.perf_counter() - began) / workload.steps


def _record(
    contestant: Contestant, workload: Workload, spent: Mapping[str, Sequence[float]], baseline: str | None
) -> LatencyRecord:
    times = np.array(spent[contestant.label])
    p10, median, p90 = np.percentile(times, (10, 50, 90)) * 1e3
    ratio = of_median((times / np.array(spent[baseline])).tolist()) if baseline in spent else None
    return LatencyRecord(
        runtime=contestant.runtime.name,
        style=contestant.style,
        workload=workload.name,
        tokens=workload.tokens,
        rounds=len(times),
        median_ms=float(median),
        p10_ms=float(p10),
        p90_ms=float(p90),
        ratio=ratio.value if ratio else None,
        ratio_low=ratio.low if ratio else None,
        ratio_high=ratio.high if ratio else None,
        reference=baseline if ratio else "",
    )


def start(runtime: Runtime, manifest: Manifest, workload: Workload) -> Arrays:
    """The cache that `workload` begins with, made by the runtime itself."""
    past = empty_past(manifest, 1)
    if not workload.past:
        return past
    return as_past(manifest, runtime.run(arrays(manifest, workload.past, 0) | past))


def arrays(manifest: Manifest, tokens: int, past: int) -> Arrays:
    """One row of random tokens after `past` others, the same for every contestant."""
    total = past + tokens
    ids = np.random.default_rng(past).integers(0, manifest.vocab_size or FALLBACK_VOCABULARY, (1, tokens))
    made = {"input_ids": ids, "attention_mask": np.ones((1, total)), "position_ids": counted(manifest, past, total)}
    types = {info.name: info.dtype for info in manifest.inputs}
    return {name: value.astype(types[name]) for name, value in made.items() if name in types}


def _validate(
    contestants: Sequence[Contestant], prompts: Sequence[int], new: int, rounds: int, baseline: str | None
) -> None:
    labels = [contestant.label for contestant in contestants]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"Two contestants are called {', '.join(twice)}.", todo="Give each a style of its own.")
    if baseline is not None and baseline not in labels:
        raise UsageError(f"There is no baseline {baseline!r}.", exists=f"There are {', '.join(labels)}.")
    if not labels or not prompts or min(prompts) < 1 or new < 0 or rounds < 1:
        raise UsageError("A benchmark needs at least one runtime, one prompt token and one round.")
    if len(set(prompts)) < len(prompts):
        raise UsageError(f"A length is asked for twice: {', '.join(map(str, prompts))}.", todo="Give each once.")
    for contestant in contestants:
        needed = max(prompts) + (new if contestant.manifest.cache else 0)
        if needed > contestant.manifest.max_position:
            raise UsageError(
                f"{needed} tokens do not fit {contestant.label}.",
                exists=f"It has {contestant.manifest.max_position} positions.",
                todo="Choose a shorter --prompt or --new, or export with a larger --max-position.",
            )
