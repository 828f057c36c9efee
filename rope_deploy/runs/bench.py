"""`bench`: prefill and decode, PyTorch and every artifact in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rope_deploy.bench import FEWEST_ROUNDS, ROUNDS
from rope_deploy.config import MOST_THREADS
from rope_deploy.errors import UsageError
from rope_deploy.models import LoadedModel
from rope_deploy.results.records import GateRecord, Report
from rope_deploy.runs.baseline import SLOWDOWN, OtherMachine, admit, against
from rope_deploy.runs.bench_contestants import Load, entrants, keys, time_again, time_all
from rope_deploy.runs.open_artifact import model_of, open_artifacts, require_runtimes, source_named
from rope_deploy.runs.report_frame import Frame, Progress, machine
from rope_deploy.runs.settle_ratio import Unsettled, in_the_way
from rope_deploy.runtimes import RUNTIMES

UPDATE = "Make it anew on this machine with the same options, and --report FILE.json instead of --baseline."


def bench_artifacts(
    folder: Path,
    *,
    runtimes: Sequence[str] = ("ort",),
    model: str | LoadedModel | None = None,
    engine: Path | None = None,
    prompts: Sequence[int] = (128,),
    new: int = 16,
    rounds: int = ROUNDS,
    threads: int | None = None,
    profile: bool = False,
    baseline: Path | None = None,
    max_slowdown: float = SLOWDOWN,
    other_machine: OtherMachine = "refuse",
    unsettled: Unsettled = "pass",
    trust_remote_code: bool = False,
    progress: Progress = lambda step: None,
) -> Report:
    """Time the artifact in `folder` (or each one inside it) on the runtimes asked for, all in interleaved rounds.

    Ratios refer to PyTorch if it takes part, else to the first artifact. `profile` measures memory and the rotation's
    share in a process for each contestant. `baseline`, an earlier JSON report, adds a gate for each ratio; `unsettled`
    says whether one that other processes keep from being judged passes or fails.
    """
    require_runtimes(runtimes, engine, tuple(RUNTIMES))
    if not 0 < max_slowdown < math.inf:
        raise UsageError(f"A ratio cannot be below {max_slowdown:g}.", todo="Give --max-slowdown a number above 0.")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"{threads} threads cannot be had.", todo=f"Give --threads a number from 1 to {MOST_THREADS}.")
    artifacts = open_artifacts(folder)
    manifest = artifacts[0].manifest
    if any(opened.manifest.task == "tower" for opened in artifacts):
        raise UsageError(f"{folder} is a tower: it reads no prompt and predicts no token, which is what is timed here.")
    entered = entrants(artifacts, runtimes, engine)
    source = model if isinstance(model, str) else ""
    if model is None and any(RUNTIMES[name].opens == "model" for name in runtimes):
        source = source_named(manifest, trusted=trust_remote_code)
    # Any report with enough rounds may become a baseline.
    kept = rounds >= FEWEST_ROUNDS
    load = Load(tuple(prompts), new, rounds, threads, profile, source, trust_remote_code, processor=kept)
    earlier = None
    if baseline is not None:
        require_rounds(rounds)
        earlier = admit(
            baseline,
            machine=machine(),
            source=manifest.source,
            wanted=keys(entered, load),
            reference=entered[0].label,
            threads=threads,
            other_machine=other_machine,
            update=UPDATE,
        )
    frame = Frame(f"Latency of {folder}", manifest.source, "bench")
    loaded = None
    if any(RUNTIMES[one.runtime].opens == "model" for one in entered):
        progress(f"Loading {manifest.source if model is None else model}")
        loaded = model_of(artifacts, model, trust_remote_code=trust_remote_code)
    timed = time_all(entered, loaded, load, progress)
    gates: tuple[GateRecord, ...] = ()
    if earlier is not None:
        gates = against(
            timed.latencies,
            timed.contestants,
            earlier,
            keys(entered, load),
            max_slowdown,
            again=lambda wanted: time_again(entered, load, wanted, progress),
            unsettled=unsettled,
        )
    notes = () if (said := in_the_way(timed.latencies)) is None else (f"{said}: on a quiet machine ratios are others.",)
    return frame.report(notes=notes, latencies=timed.latencies, contestants=timed.contestants, gates=gates)


def require_rounds(rounds: int) -> None:
    """Raise UsageError if `rounds` are too few to be held against a baseline."""
    if rounds < FEWEST_ROUNDS:
        raise UsageError(
            f"{rounds} rounds are too few for a baseline: their spread says nothing.",
            todo=f"Give --rounds {FEWEST_ROUNDS} or more.",
        )
