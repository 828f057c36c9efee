"""Audit: hold what an ONNX file stores and computes against what its model's configuration says, without running it."""

from rope_deploy.parity.audit.artifacts import audit_artifact, require_rotations, stated_by
from rope_deploy.parity.audit.expected import Expected, from_config, from_manifest
from rope_deploy.parity.audit.judge import audit
from rope_deploy.parity.audit.results import Audit

__all__ = [
    "Audit",
    "Expected",
    "audit",
    "audit_artifact",
    "from_config",
    "from_manifest",
    "require_rotations",
    "stated_by",
]
