"""Audit: hold what an ONNX file stores and computes against what its model's configuration says, without running it."""

from rope_deploy.audit.audit_artifact import audit_artifact, require_rotations, stated_by
from rope_deploy.audit.audit_reading import audit
from rope_deploy.audit.collect_findings import Audit
from rope_deploy.audit.expected_rotations import Expected, from_config, from_manifest

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
