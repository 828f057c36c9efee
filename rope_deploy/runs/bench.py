"""`bench`: prefill and decode, PyTorch and every artifact in interleaved rounds."""

from __future__ import annotations

from pathlib import Path

from rope_deploy.errors import UsageError
from rope_deploy.options import FEWEST_ROUNDS, BenchOptions
from rope_deploy.results.records import GateRecord, Report
from rope_deploy.runs.artifacts import load_artifacts
from rope_deploy.runs.baseline import admit_baseline, gates_against
from rope_deploy.runs.bench_contestants import BenchPlan, measure_ratios_again, plan_contestants, ratio_keys, time_all
from rope_deploy.runs.judge_slowdown import load_remark
from rope_deploy.runs.progress import Progress, silent
from rope_deploy.runs.reference_model import load_reference, source_in_manifest
from rope_deploy.runs.report_frame import Frame, machine
from rope_deploy.runtime_registry import RUNTIMES

UPDATE = "Make it anew on this machine with the same options, and --report FILE.json instead of --baseline."


def bench_artifacts(folder: Path, options: BenchOptions, *, progress: Progress = silent) -> Report:
    """Time the artifact in `folder` (or each one inside it) on the runtimes asked for; see `rope_deploy.api.bench`.

    Ratios refer to PyTorch if it takes part, else to the first artifact. A baseline adds a gate for each ratio.
    """
    artifacts = load_artifacts(folder)
    manifest = artifacts[0].manifest
    if any(artifact.manifest.task == "tower" for artifact in artifacts):
        raise UsageError(f"{folder} is a tower: it reads no prompt and predicts no token, which is what is timed here.")
    contestants = plan_contestants(artifacts, options.runtimes, options.engine)
    model = options.model
    source = model if isinstance(model, str) else ""
    if model is None and any(RUNTIMES[name].opens == "model" for name in options.runtimes):
        source = source_in_manifest(manifest, trusted=options.trust_remote_code)
    # Any report with enough rounds may become a baseline.
    plan = BenchPlan(options, source, processor_ratios=options.rounds >= FEWEST_ROUNDS)
    baseline = None
    if options.baseline is not None:
        baseline = admit_baseline(
            options.baseline,
            machine=machine(),
            source=manifest.source,
            wanted=ratio_keys(contestants, plan),
            reference=contestants[0].label,
            threads=options.threads,
            other_machine=options.other_machine,
            update=UPDATE,
        )
    frame = Frame(f"Latency of {folder}", manifest.source, "bench")
    loaded = None
    if any(RUNTIMES[one.runtime].opens == "model" for one in contestants):
        progress(f"Loading {manifest.source if model is None else model}")
        loaded = load_reference(artifacts, model, trust_remote_code=options.trust_remote_code)
    timed = time_all(contestants, loaded, plan, progress)
    gates: tuple[GateRecord, ...] = ()
    notes = list(timed.notes)
    if baseline is not None:
        gates = gates_against(
            timed.latencies,
            timed.contestants,
            baseline,
            ratio_keys(contestants, plan),
            options.max_slowdown,
            measure_again=lambda wanted: measure_ratios_again(contestants, plan, wanted, progress, notes.append),
            unsettled=options.unsettled,
        )
    if remark := load_remark(timed.latencies):
        notes.append(f"{remark}: on a quiet machine ratios are others.")
    return frame.report(
        notes=tuple(dict.fromkeys(notes)), latencies=timed.latencies, contestants=timed.contestants, gates=gates
    )
