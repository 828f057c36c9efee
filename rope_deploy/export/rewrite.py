"""Rewrite an ONNX file, and compare what it computes with the model's configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rope_deploy.artifact import Finding
from rope_deploy.export.audit_tables import Audited, audit_rotations
from rope_deploy.export.one_sided_layers import one_sided
from rope_deploy.export.prepare_model import in_float64, layer_types
from rope_deploy.graph.analysis.weights_dtype import weights_dtype
from rope_deploy.graph.markers import Raised
from rope_deploy.graph.rewrite import Rewritten, rewrite_graph
from rope_deploy.models.loading.stated_rotation import stated_rotation
from rope_deploy.options import RewriteOptions
from rope_deploy.results.records import ExportRecord
from rope_deploy.rope import RopeSpec
from rope_deploy.rope.read_config import read_config_file

# What was audited, the rules of the configuration, and the type of the file's weights.
FileJudge = Callable[[list[Audited], Mapping[str, RopeSpec], str], list[Audited]]


def rewrite_file(
    source: Path,
    target: Path,
    options: RewriteOptions,
    *,
    judge: FileJudge = lambda audited, specs, dtype: audited,
    before: Callable[[Path, tuple[Audited, ...]], str] = lambda path, audited: "",
    progress: Callable[[str], None] = lambda step: None,
) -> ExportRecord:
    """See `rope_deploy.api.rewrite`.

    `judge` decides what becomes of differences from the configuration, as in `prepare`. `before` gets the finished file
    under its temporary name and what was audited; what it returns stands in the record, what it raises leaves `target`
    as it was.
    """
    began = time.perf_counter()
    stated = {} if options.config is None else read_config_file(options.config)
    specs = {} if options.config is None else stated_rotation(stated).specs
    audited: tuple[Audited, ...] = ()
    sides: tuple[Finding, ...] = ()
    ran = ""

    def judged(raised: Raised) -> Raised:
        nonlocal audited, sides
        sides = one_sided(raised, "file")
        found = audit_rotations(raised.rotations, specs, layer_types(raised, stated), of="file")
        audited = tuple(judge(found, specs, weights_dtype(raised.model)))
        if options.angles == "float64":
            audited = tuple(in_float64(one) for one in audited)
        return replace(raised, rotations=tuple(one.rotation for one in audited))

    def finished(path: Path) -> None:
        nonlocal ran
        ran = before(path, audited)

    written = rewrite_graph(
        source,
        target,
        options.style,
        opset=options.opset,
        max_position=options.max_position,
        stated_position=max((spec.max_position for spec in specs.values()), default=None),
        allow_unmatched=options.allow_unmatched,
        force=options.force,
        revise=judged,
        before=finished,
        progress=progress,
    )
    findings = [finding for one in audited for finding in one.findings if _is_news(finding)]
    return _record(written, (*findings, *sides), ran, began)


def _record(written: Rewritten, findings: Sequence[Finding], ran: str, began: float) -> ExportRecord:
    weights = sum(info.bytes for info in written.summary.weights.values())
    return ExportRecord(
        style=written.style,
        folder=str(written.path),
        opset=written.opset,
        nodes=written.summary.nodes,
        sites=written.sites,
        rotations=len(written.rotations),
        bytes=written.path.stat().st_size + weights,
        seconds=time.perf_counter() - began,
        findings=(*(one.message for one in findings), *(f"Left as it was: {line}" for line in written.unmatched)),
        runtime_cos_sin=written.summary.runtime_cos_sin,
        ran=ran,
    )


def _is_news(finding: Finding) -> bool:
    """Whether a finding says more than that no configuration was given, which the caller knows."""
    return finding.code != "no-config"
