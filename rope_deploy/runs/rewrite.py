"""`rewrite`: a file is judged by its configuration, rewritten, and run beside the original before it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rope_deploy.export import rewrite_file
from rope_deploy.export.audit_tables import Audited
from rope_deploy.graph.lower.lowerings import require_opset
from rope_deploy.options import RewriteOptions
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import ExportRecord
from rope_deploy.rope import RopeSpec
from rope_deploy.runs.accepted_mistakes import OF_PRECISION, Judge
from rope_deploy.runs.progress import Progress, silent
from rope_deploy.runs.rewrite_trial import run_both


def rewrite_judged(source: Path, target: Path, options: RewriteOptions, *, progress: Progress = silent) -> ExportRecord:
    """See `rope_deploy.api.rewrite`."""
    require_opset(options.style, options.opset)
    accepted, recomputed = require_codes(options.accept), options.angles == "float64"

    def judge(audited: list[Audited], specs: Mapping[str, RopeSpec], dtype: str) -> list[Audited]:
        return Judge(specs, accepted, recomputed=recomputed, dtype=dtype, layouts=True)(audited)

    def trial(path: Path, audited: tuple[Audited, ...]) -> str:
        if not options.run:
            return ""
        progress("Running it beside the original")
        changed = recomputed or any(finding.accepted in OF_PRECISION for one in audited for finding in one.findings)
        dtypes = {one.rotation.table.cos.dtype.name for one in audited}
        shortest = next((name for name in ("bfloat16", "float16") if name in dtypes), "float32")
        rows = min((one.rotation.max_position for one in audited), default=1)
        return run_both(Path(source), path, rows, dtype=shortest, angles_changed=changed)

    return rewrite_file(source, target, options, judge=judge, before=trial, progress=progress)
