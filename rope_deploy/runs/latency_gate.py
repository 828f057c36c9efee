"""The benchmark of a `ci` run, and the baseline it is held against or becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rope_deploy.bench import ROUNDS
from rope_deploy.config import RunConfig
from rope_deploy.errors import UsageError
from rope_deploy.models import LoadedModel
from rope_deploy.results.records import EngineRecord, GateRecord, Report
from rope_deploy.runs.baseline import SLOWDOWN, Baseline, Key, admit, against, write_baseline
from rope_deploy.runs.bench_contestants import Entrant, Load, Timed, entrants, keys, time_again, time_all
from rope_deploy.runs.open_artifact import Opened
from rope_deploy.runs.report_frame import Progress, machine
from rope_deploy.runs.settle_ratio import in_the_way
from rope_deploy.runtimes import RUNTIMES


class Slowdown:
    """Made before any work, when a baseline that cannot serve is refused; asked again once everything is timed.

    `named` is what the report calls the model, `source` where it lies. Raises what `admit` raises, and UsageError for
    an update where no baseline is named.
    """

    def __init__(self, config: RunConfig, named: str, source: str, *, update: bool):
        self._config, self._named, self._update = config, named, update
        self._wanted: tuple[Key, ...] = ()
        self._baseline: Baseline | None = None
        self._entered: Sequence[Entrant] = ()
        wanted = config.bench
        if update and not (wanted and wanted.baseline):
            raise UsageError(
                "There is no baseline to update: the configuration names none.",
                todo='Add baseline = "FILE.json" to its [bench] table.',
            )
        if wanted is None:
            return
        self._load = Load(
            prompts=wanted.prompts,
            new=wanted.new,
            rounds=wanted.rounds or ROUNDS,
            threads=wanted.threads,
            profile=wanted.profile,
            source=source,
            trust_remote_code=config.model.trust_remote_code,
            processor=bool(wanted.baseline),
        )
        if self._judging:
            names = [f"prefill {prompt}" for prompt in wanted.prompts]
            reference, *others = _expected(config)
            self._admitted([(*one, name) for name in names for one in others], "/".join(filter(None, reference)))

    @property
    def _judging(self) -> bool:
        return bool(self._config.bench and self._config.bench.baseline and not self._update)

    def _admitted(self, wanted: Sequence[Key], reference: str) -> Baseline:
        bench = self._config.bench
        return admit(
            Path(bench.baseline),
            machine=machine(),
            source=self._named,
            wanted=wanted,
            reference=reference,
            threads=bench.threads,
            other_machine=bench.other_machine,
            update="Make it anew on this machine with `rope-deploy ci CONFIG.toml --update-baseline`.",
        )

    def time(
        self,
        artifacts: Sequence[Opened],
        engines: Sequence[EngineRecord],
        loaded: LoadedModel,
        progress: Progress,
    ) -> Timed:
        """Time all contestants. What the baseline must know is clear only now: an encoder does not decode."""
        built = [Path(engine.path) for engine in engines if engine.verdict == "passed"]
        style = self._config.build.style if self._config.build else ""
        engine = built[0] if built else None
        entered = self._entered = entrants(artifacts, self._config.bench.runtimes, engine, style)
        if self._judging:
            self._wanted = keys(entered, self._load)
            self._baseline = self._admitted(self._wanted, entered[0].label)
        return time_all(entered, loaded, self._load, progress)

    def gates(self, timed: Timed, progress: Progress) -> tuple[GateRecord, ...]:
        """One for each ratio that the baseline has; none where there is no baseline. Asked after `time`."""
        if self._baseline is None:
            return ()
        limit = self._config.gates.max_slowdown or SLOWDOWN
        return against(
            timed.latencies,
            timed.contestants,
            self._baseline,
            self._wanted,
            limit,
            again=lambda keys: time_again(self._entered, self._load, keys, progress),
            unsettled=self._config.bench.unsettled,
        )

    def kept(self, report: Report) -> Report:
        """Write the baseline if that was asked for, and let the report say so."""
        if not self._update:
            return report
        path = Path(self._config.bench.baseline)
        if report.verdict == "failed":
            note = f"The baseline {path} was left as it is, because this run failed."
        else:
            write_baseline(report, path)
            note = f"The baseline {path} was written."
            if said := in_the_way(report.latencies):
                note += f" {said}: make it again on a quiet machine."
        return replace(report, notes=(*report.notes, note))


def _expected(config: RunConfig) -> list[tuple[str, str]]:
    """(runtime, style) of everyone that `entrants` will name, in its order, before there are any artifacts."""
    runtimes = config.bench.runtimes
    styles = {"model": ("",), "artifact": config.export.styles, "engine": (config.build.style,) if config.build else ()}
    return [(name, style) for name, record in RUNTIMES.items() if name in runtimes for style in styles[record.opens]]
