"""Read exported files again and record what they hold: the graph assertions of `ci` rest on this alone."""

from __future__ import annotations

from rope_deploy.artifact import MODEL_NAME
from rope_deploy.childprocess import WITHOUT_LIMITS, call
from rope_deploy.graph.reading.survey import survey
from rope_deploy.graph.rotating_operators import forms_of_style
from rope_deploy.results.records import GraphRecord
from rope_deploy.runs.artifacts import Artifact

PLACEMENT = "rope_deploy.runtimes.ort_placement:placement"


def read_graph(artifact: Artifact, provider: str | None = None) -> GraphRecord:
    """What the file in `artifact` holds, by its nodes; with `provider`, also where ONNX Runtime would run them.

    Two tables, cos and sin, are needed for each rotation that is not computed at run time; none is needed twice.
    Raises what `survey` and `placement` raise.
    """
    manifest = artifact.manifest
    found = survey(artifact.folder / MODEL_NAME)
    tabulated = {str((r.spec, r.rows)) if r.spec else r.name for r in manifest.rotations if r.cos_sin != "computed"}
    return GraphRecord(
        style=manifest.style,
        nodes=found.nodes,
        rotations=sum(found.forms.get(form, 0) for form in forms_of_style(manifest.style)),
        expected=len(manifest.sites),
        forms=found.forms,
        tables=len(found.tables),
        needed=2 * len(tabulated),
        runtime_cos_sin=found.runtime_cos_sin,
        unmatched=tuple(finding.message for finding in manifest.findings if finding.code == "unmatched"),
        provider=provider or "",
        providers=_placement(artifact, provider) if provider else {},
    )


def _placement(artifact: Artifact, provider: str) -> dict[str, int]:
    """Where ONNX Runtime would run the nodes. It is asked in a process of its own, since it may crash on the file."""
    doing = f"Loading {artifact.folder / MODEL_NAME} in ONNX Runtime"
    return call(PLACEMENT, artifact.folder, provider, doing=doing, limits=WITHOUT_LIMITS)
