"""Make the options of each command that a configuration file carries out, from the file's tables.

A table may have other defaults than the command of its name, because a file states a whole comparison: every style is
exported, PyTorch is timed, and the engine is of the flavour that needs no GPU to build. The schema says which.
"""

from __future__ import annotations

from pathlib import Path

from rope_deploy.config.schema import RunConfig
from rope_deploy.options import BenchOptions, BuildOptions, CheckOptions, ExportOptions


def export_options(config: RunConfig, *, force: bool = False) -> ExportOptions:
    """The options of [export] and [model]."""
    wanted = config.export
    return ExportOptions(
        styles=wanted.styles,
        dtype=config.model.dtype,
        opset=wanted.opset,
        max_position=wanted.max_position,
        angles=wanted.angles,
        cache=wanted.cache,
        fused_attention=wanted.fused_attention,
        allow_unmatched=wanted.allow_unmatched,
        accept=wanted.accept,
        trust_remote_code=config.model.trust_remote_code,
        force=force,
    )


def build_options(config: RunConfig, *, force: bool = False) -> BuildOptions:
    """The options of [build], which must be there."""
    wanted = config.build
    return BuildOptions(
        style=wanted.style,
        flavor=wanted.flavor,
        capabilities=wanted.compute_capabilities,
        profiles=tuple(f"{name}={least}:{usual}:{most}" for name, (least, usual, most) in wanted.profiles.items()),
        force=force,
    )


def check_options(config: RunConfig) -> CheckOptions:
    """The options of [check]; also accepted is what [export] accepts, and a table that it asked to be short."""
    wanted = config.check
    return CheckOptions(
        runtimes=wanted.runtimes,
        engine=engine_path(config),
        quick=wanted.set == "quick",
        seed=wanted.seed,
        trust_remote_code=config.model.trust_remote_code,
        allow_limits=(*wanted.allow_limits, *(("max_position",) if config.export.max_position else ())),
        accept=config.export.accept,
    )


def bench_options(config: RunConfig) -> BenchOptions:
    """The options of [bench], which must be there, and of [gates] max_slowdown."""
    wanted = config.bench
    return BenchOptions(
        runtimes=wanted.runtimes,
        engine=engine_path(config),
        prompt=wanted.prompts,
        new=wanted.new,
        rounds=wanted.rounds or BenchOptions.rounds,
        threads=wanted.threads,
        profile=wanted.profile,
        baseline=Path(wanted.baseline) if wanted.baseline else None,
        max_slowdown=config.gates.max_slowdown or BenchOptions.max_slowdown,
        other_machine=wanted.other_machine,
        unsettled=wanted.unsettled,
        trust_remote_code=config.model.trust_remote_code,
    )


def engine_path(config: RunConfig) -> Path | None:
    """Where the engine of [build] is written; None without that table."""
    if config.build is None:
        return None
    return Path(config.output.folder) / f"{config.build.style}.{config.build.flavor}.engine"
