"""The execution provider that ONNX Runtime gives each node of a graph; it falls back to another one silently."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnxruntime

from rope_deploy.artifact import MODEL_NAME
from rope_deploy.errors import EnvironmentMissing
from rope_deploy.runtimes.onnx_runtime import CPU, SILENT, cannot_load, require_providers

RECORD = "session.record_ep_graph_assignment_info"


def placement(folder: Path, provider: str) -> dict[str, int]:
    """Nodes of the artifact in `folder` by the provider they run on, `provider` preferred to the CPU.

    These are the nodes after ONNX Runtime's own partitioning; the graph is loaded, not run.

    Raises EnvironmentMissing (no such provider, or it cannot start), VendorError (the graph cannot be loaded).
    """
    require_providers((provider,))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.add_session_config_entry(RECORD, "1")
    try:
        session = onnxruntime.InferenceSession(
            str(Path(folder) / MODEL_NAME), options, providers=list(dict.fromkeys((provider, *CPU)))
        )
    except Exception as error:  # its exception classes share no base below Exception
        raise cannot_load(Path(folder) / MODEL_NAME, error) from error
    if provider not in session.get_providers():
        raise EnvironmentMissing(
            f"{provider} is installed but could not start.",
            todo="Run `rope-deploy doctor`; a GPU, its driver or a library may be missing.",
        )
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts.most_common())
