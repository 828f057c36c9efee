"""The benchmark of a `ci` run, and the baseline that it is compared with or written to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rope_deploy.config import RunConfig, bench_options
from rope_deploy.errors import UsageError
from rope_deploy.models import LoadedModel
from rope_deploy.results.records import EngineRecord, GateRecord, Report
from rope_deploy.runs.artifacts import Artifact
from rope_deploy.runs.baseline import Baseline, Key, admit_baseline, gates_against, write_baseline
from rope_deploy.runs.bench_contestants import (
    BenchPlan,
    PlannedContestant,
    Timed,
    measure_ratios_again,
    plan_contestants,
    ratio_keys,
    time_all,
)
from rope_deploy.runs.judge_slowdown import load_remark
from rope_deploy.runs.progress import Progress
from rope_deploy.runs.report_frame import machine
from rope_deploy.runtime_registry import RUNTIMES

UPDATE = "Make it anew on this machine with `rope-deploy ci CONFIG.toml --update-baseline`."


class BaselineGate:
    """Times the contestants of a `ci` run and judges them by the baseline.

    It is made before any work, so that a baseline that cannot serve is refused early, and asked again after the timing.

    `name` is what the report calls the model, `source` where it lies. Raises what `admit_baseline` raises, and
    UsageError for an update where no baseline is named.
    """

    def __init__(self, config: RunConfig, name: str, source: str, *, update: bool):
        self._config, self._name, self._update = config, name, update
        self._wanted: tuple[Key, ...] = ()
        self._baseline: Baseline | None = None
        self._contestants: Sequence[PlannedContestant] = ()
        self._notes: list[str] = []
        if update and not (config.bench and config.bench.baseline):
            raise UsageError(
                "There is no baseline to update: the configuration names none.",
                todo='Add baseline = "FILE.json" to its [bench] table.',
            )
        if config.bench is None:
            return
        self._options = bench_options(config)
        self._plan = BenchPlan(self._options, source, processor_ratios=self._options.baseline is not None)
        if self._judging:
            names = [f"prefill {length}" for length in self._options.prompt]
            reference, *others = _expected_contestants(config)
            self._admit([(*one, name) for name in names for one in others], "/".join(filter(None, reference)))

    @property
    def _judging(self) -> bool:
        return bool(self._config.bench and self._options.baseline and not self._update)

    def _admit(self, wanted: Sequence[Key], reference: str) -> Baseline:
        return admit_baseline(
            self._options.baseline,
            machine=machine(),
            source=self._name,
            wanted=wanted,
            reference=reference,
            threads=self._options.threads,
            other_machine=self._options.other_machine,
            update=UPDATE,
        )

    def time(
        self,
        artifacts: Sequence[Artifact],
        engines: Sequence[EngineRecord],
        loaded: LoadedModel,
        progress: Progress,
    ) -> Timed:
        """Time all contestants; nothing without a [bench] table.

        What the baseline must have is clear only now: an encoder does not decode.
        """
        if self._config.bench is None:
            return Timed()
        built = [Path(engine.path) for engine in engines if engine.verdict == "passed"]
        style = self._config.build.style if self._config.build else ""
        contestants = plan_contestants(artifacts, self._options.runtimes, built[0] if built else None, style)
        self._contestants = contestants
        if self._judging:
            self._wanted = ratio_keys(contestants, self._plan)
            self._baseline = self._admit(self._wanted, contestants[0].label)
        timed = time_all(contestants, loaded, self._plan, progress)
        self._notes += timed.notes
        return timed

    def gates(self, timed: Timed, progress: Progress) -> tuple[GateRecord, ...]:
        """A gate for each ratio that the baseline has; none where there is no baseline. Called after `time`."""
        if self._baseline is None:
            return ()
        return gates_against(
            timed.latencies,
            timed.contestants,
            self._baseline,
            self._wanted,
            self._options.max_slowdown,
            measure_again=lambda keys: measure_ratios_again(
                self._contestants, self._plan, keys, progress, self._notes.append
            ),
            unsettled=self._options.unsettled,
        )

    def with_baseline_written(self, report: Report) -> Report:
        """Write the baseline if that was asked for; the report with notes of it and of what could not be measured."""
        report = replace(report, notes=(*report.notes, *dict.fromkeys(self._notes)))
        if not self._update:
            return report
        path = self._options.baseline
        if report.verdict == "failed":
            note = f"The baseline {path} was left as it is, because this run failed."
        else:
            write_baseline(report, path)
            note = f"The baseline {path} was written."
            if remark := load_remark(report.latencies):
                note += f" {remark}: make it again on a quiet machine."
        return replace(report, notes=(*report.notes, note))


def _expected_contestants(config: RunConfig) -> list[tuple[str, str]]:
    """(runtime, style) of all that `plan_contestants` will name, in its order, before there are any artifacts."""
    runtimes = config.bench.runtimes
    styles = {"model": ("",), "artifact": config.export.styles, "engine": (config.build.style,) if config.build else ()}
    return [(name, style) for name, kind in RUNTIMES.items() if name in runtimes for style in styles[kind.opens]]
