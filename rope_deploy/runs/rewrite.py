"""`rewrite`: a file is judged by its configuration, rewritten, and run beside the original before it is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from rope_deploy.export import rewrite_file
from rope_deploy.export.audit_tables import Audited
from rope_deploy.graph.lower.styles import require_opset
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import ExportRecord
from rope_deploy.rope import RopeSpec
from rope_deploy.runs.accepted_mistakes import OF_PRECISION, Judge
from rope_deploy.runs.report_frame import Progress
from rope_deploy.runs.rewrite_trial import try_both


def rewrite_judged(
    source: Path,
    target: Path,
    style: str,
    *,
    angles: Literal["model", "float64"] = "model",
    accept: Collection[str] = (),
    run: bool = True,
    progress: Progress = lambda step: None,
    **options: Any,
) -> ExportRecord:
    """See `rope_deploy.api.rewrite`; `options` are those of `exporter.rewrite_file`."""
    require_opset(style, options.get("opset"))
    accepted, mended = require_codes(accept), angles == "float64"

    def judge(audited: list[Audited], specs: Mapping[str, RopeSpec], dtype: str) -> list[Audited]:
        return Judge(specs, accepted, mended=mended, dtype=dtype, layouts=True)(audited)

    def tried(path: Path, audited: tuple[Audited, ...]) -> str:
        if not run:
            return ""
        progress("Running it beside the original")
        changed = mended or any(finding.accepted in OF_PRECISION for one in audited for finding in one.findings)
        dtypes = {one.rotation.table.cos.dtype.name for one in audited}
        shortest = next((name for name in ("bfloat16", "float16") if name in dtypes), "float32")
        rows = min((one.rotation.max_position for one in audited), default=1)
        return try_both(Path(source), path, rows, dtype=shortest, angles_changed=changed)

    return rewrite_file(source, target, style, angles=angles, judge=judge, before=tried, progress=progress, **options)
