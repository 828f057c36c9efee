"""Rewrite an ONNX file and say how what it computes compares with the model's configuration."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rope_deploy.exporter.audit import audit
from rope_deploy.graph import rewrite_file as rewrite_graph
from rope_deploy.report.records import ExportRecord
from rope_deploy.rope import specs_from_config
from rope_deploy.rope.config_file import read_config_file


def rewrite_file(
    source: Path,
    target: Path,
    style: str,
    *,
    config: Path | None = None,
    opset: int | None = None,
    max_position: int | None = None,
    allow_unmatched: bool = False,
    force: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> ExportRecord:
    """See `rope_deploy.api.rewrite`."""
    began = time.perf_counter()
    specs = {} if config is None else specs_from_config(read_config_file(config))
    written = rewrite_graph(
        source,
        target,
        style,
        opset=opset,
        max_position=max_position,
        stated_position=max((spec.max_position for spec in specs.values()), default=None),
        allow_unmatched=allow_unmatched,
        force=force,
        progress=progress,
    )
    findings = [finding.message for one in audit(written.rotations, specs) for finding in one.findings] if specs else []
    files = [path for path in (target, target.with_name(f"{target.name}.data")) if path.exists()]
    return ExportRecord(
        style=style,
        folder=str(target),
        opset=written.opset,
        nodes=written.summary.nodes,
        sites=written.sites,
        rotations=len(written.rotations),
        bytes=sum(path.stat().st_size for path in files),
        seconds=time.perf_counter() - began,
        findings=(*findings, *(f"Left as it was: {line}" for line in written.unmatched)),
        runtime_cos_sin=written.summary.runtime_cos_sin,
    )
