"""The artifact folder: its manifest, and how it comes to be without ever being half there."""

from rope_deploy.artifact.disk import syncing
from rope_deploy.artifact.file_names import MANIFEST_NAME, MODEL_NAME, link_fault, name_fault
from rope_deploy.artifact.manifest import (
    PAST_PREFIX,
    PRESENT_PREFIX,
    SIZE_DIFFERS,
    TABLE_DIFFERS,
    TOKENS_KEY,
    TOLERANCES,
    FileInfo,
    Finding,
    Fixed,
    Limits,
    Manifest,
    Rotation,
    Site,
    TensorInfo,
    Tolerances,
    changed_files,
    hash_file,
    load_manifest,
)
from rope_deploy.artifact.replace_folder import held_folder, new_folder, refuse_folder
from rope_deploy.artifact.staging import absolute_name, staging
from rope_deploy.artifact.versioned_json import read_versioned
from rope_deploy.artifact.weights_files import weights_name
from rope_deploy.artifact.write_files import new_file, new_graph, refuse_existing, withdraw, write_utf8

__all__ = [
    "MANIFEST_NAME",
    "MODEL_NAME",
    "PAST_PREFIX",
    "PRESENT_PREFIX",
    "SIZE_DIFFERS",
    "TABLE_DIFFERS",
    "TOKENS_KEY",
    "TOLERANCES",
    "FileInfo",
    "Finding",
    "Fixed",
    "Limits",
    "Manifest",
    "Rotation",
    "Site",
    "TensorInfo",
    "Tolerances",
    "absolute_name",
    "changed_files",
    "hash_file",
    "held_folder",
    "link_fault",
    "load_manifest",
    "name_fault",
    "new_file",
    "new_folder",
    "new_graph",
    "read_versioned",
    "refuse_existing",
    "refuse_folder",
    "staging",
    "syncing",
    "weights_name",
    "withdraw",
    "write_utf8",
]
