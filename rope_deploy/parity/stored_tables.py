"""The tables that a file holds, for rotations of which no rule is known."""

from __future__ import annotations

from pathlib import Path

from rope_deploy.artifact import MODEL_NAME, Manifest
from rope_deploy.graph.io import read_model
from rope_deploy.parity.float64_oracle import StoredTables


def tables_without_rule(folder: Path, manifest: Manifest) -> StoredTables:
    """cos and sin [rows, R/2] of each rotation without a rule, by its name, where the file stores them as such.

    Raises UsageError for a file that is not ONNX.
    """
    wanted = [one for one in manifest.rotations if not one.spec and one.cos_sin == "table" and one.rotary_dim]
    if not wanted or manifest.task == "tower":
        return {}
    held = read_model(folder / MODEL_NAME).graph.initializers
    found = {one.name: [held.get(name or "") for name in (one.cos_cache, one.sin_cache)] for one in wanted}
    return {
        name: (cos.const_value.numpy(), sin.const_value.numpy())
        for name, (cos, sin) in found.items()
        if cos is not None and sin is not None
    }
