"""The manifest of an artifact, `rope_deploy.json`: where each rotation sits, from which table, what the graph accepts.

Frozen dataclasses, decoded and validated by pydantic.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from rope_deploy.artifact.file_names import MANIFEST_NAME, MODEL_NAME, artifact_around, link_fault, name_fault
from rope_deploy.artifact.subject import GRAPH_ENDING
from rope_deploy.artifact.versioned_json import read_versioned
from rope_deploy.artifact.write_files import listing
from rope_deploy.errors import ConfigError, UsageError
from rope_deploy.styles import StyleName

SCHEMA_VERSION = 2
# A cache goes in as past_key_values.{layer}.{part} and comes out as present.{layer}.{part}.
PAST_PREFIX, PRESENT_PREFIX = "past_key_values.", "present."
TOKENS_KEY = "rope_deploy.tokens"  # in a graph's metadata: how many tokens it takes at most, where it was limited


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output. `shape` mixes numbers and axis names (batch, sequence, past, total)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Fixed:
    """An argument of a tower that its graph was made for and does not take: nested lists of numbers."""

    dtype: str
    values: Any


@dataclass(frozen=True)
class Site:
    """One application of a rotation.

    `occurrence` 0 is the attention's own; what else is rotated in a layer follows: q and k of an indexer, which picks
    the keys that attention reads. Layers that run several times, and those of an encoder and its decoder, are numbered
    as they run.

    `output` names the graph value that holds the rotated tensor; `layout` says how its axes lie:
    B batch, S sequence, N heads, H head_dim; "BS(NH)" has heads and head_dim merged. When the attention
    is fused, the rotated tensor exists only inside the operator: `output` is then None, a k site is read
    from `present` (the rows after each sequence's real past) and a q site from `scores`, the products with every
    key, [B, N, S, total], times `scale` (1/sqrt(head_dim) for most models), before any softcap and softmax.
    """

    layer: int
    role: Literal["q", "k"]
    rotation: str
    num_heads: int
    head_dim: int
    layout: Literal["BNSH", "BSNH", "BS(NH)"]
    input: str | None
    output: str | None
    present: str | None = None
    scores: str | None = None
    scale: float | None = None
    occurrence: int = 0

    @property
    def key(self) -> str:
        """What the names of its taps end in: "3.q", or "3.q.1" where `occurrence` is 1."""
        return f"{self.layer}.{self.role}.{self.occurrence}" if self.occurrence else f"{self.layer}.{self.role}"


@dataclass(frozen=True)
class Rotation:
    """One distinct rotation and its caches. `spec` is `RopeSpec.to_dict()`; caches are [rows, rotary_dim/2].

    `axes` [rotary_dim/2] says which axis of position_ids [A, B, S] each pair follows; () where positions have one.
    `cos_sin` says where they come from: one table, two (short and long calls), or computed in the graph. `rotary_dim`
    and `interleaved` hold for a rotation without a rule too. `element_order`: where a model's pairs are neither halves
    nor neighbours, which of its elements the sites have at each index of a head.
    """

    name: str
    spec: dict[str, Any]
    cos_cache: str | None
    sin_cache: str | None
    rows: int
    cos_sin: Literal["table", "two-tables", "computed"]
    axes: tuple[int, ...] = ()
    rotary_dim: int = 0
    interleaved: bool = False
    element_order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What this graph cannot do although the format of its inputs would allow it.

    `left_padding`: a row may begin with padding. `chunked_prefill_batch`: several tokens at once after a past,
    at batch > 1. `prompt_positions`: a first prompt (empty past) may have any positions; where False, the
    operator rotates it as if every row counted up from `position_ids[0, 0]` (GroupQueryAttention on a CPU
    reads only that element; later steps read all of them). `padded_past`: padding may lie between real tokens of
    the past, as when prompts were padded on the right; where False, a fused sliding window counts real tokens
    while PyTorch's counts columns. `tokens`: as many as a call may have, past and padding included; beyond, the model
    takes a branch that this graph does not have.
    """

    left_padding: bool = True
    chunked_prefill_batch: bool = True
    prompt_positions: bool = True
    padded_past: bool = True
    tokens: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Tolerances:
    """Largest accepted difference from PyTorch, for the dtype of this artifact.

    `logits` is absolute. `rotated` (q, k and the cache, in every layer) is relative to the largest element that
    PyTorch's tensor has: what the layers before have rounded grows with the tensor. How a check goes on from there is
    in `rope_deploy.parity.tolerances`.
    """

    logits: float
    rotated: float


TOLERANCES: Mapping[str, Tolerances] = {
    "float32": Tolerances(logits=1e-3, rotated=1e-4),
    "float16": Tolerances(logits=6e-2, rotated=3e-2),
    "bfloat16": Tolerances(logits=5e-1, rotated=2.5e-1),
}


# Codes of findings by which a rotation is not what the configuration states; audits of an artifact read them.
TABLE_DIFFERS, SIZE_DIFFERS = "table-differs", "size-differs"


@dataclass(frozen=True)
class Finding:
    """Something the export noticed and a reader should know, e.g. a table that differs from the config's rule.

    `accepted` is the code of the mistake (RDxxx) that whoever exported accepted; "" where nothing had to be.
    """

    code: str
    severity: Literal["info", "warning", "error"]
    message: str
    accepted: str = ""

    @property
    def unlike_configuration(self) -> bool:
        """Whether it says that a rotation is not the one that the configuration states."""
        return self.code in (TABLE_DIFFERS, SIZE_DIFFERS)


@dataclass(frozen=True)
class FileInfo:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime, a builder or a check needs to know about an artifact."""

    source: str
    model_type: str
    task: Literal["decoder", "encoder", "tower"]
    cache: bool
    layers: int
    style: StyleName
    opset: int
    dtype: str
    angles: Literal["model", "float64"]
    max_position: int
    fused_attention: bool
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    rotations: tuple[Rotation, ...]
    sites: tuple[Site, ...]
    tolerances: Tolerances
    vocab_size: int | None = None
    fixed: dict[str, Fixed] = field(default_factory=dict)
    limits: Limits = Limits()
    findings: tuple[Finding, ...] = ()
    patches: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileInfo] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def past_names(self) -> tuple[str, ...]:
        return tuple(i.name for i in self.inputs if i.name.startswith(PAST_PREFIX))

    @property
    def present_names(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.outputs if o.name.startswith(PRESENT_PREFIX))

    @property
    def position_axes(self) -> int:
        """Axes of a position: 1, or A where position_ids is [A, batch, sequence] (M-RoPE)."""
        shapes = [info.shape for info in self.inputs if info.name == "position_ids"]
        return int(shapes[0][0]) if shapes and len(shapes[0]) == 3 else 1

    @property
    def result_name(self) -> str:
        """`logits` or `last_hidden_state`."""
        return self.outputs[0].name

    def to_json(self) -> str:
        return _MANIFEST.dump_json(self, indent=2).decode() + "\n"


_MANIFEST = TypeAdapter(Manifest)


def load_manifest(folder: Path) -> Manifest:
    """Read and validate `folder/rope_deploy.json`; every fault is reported at once."""
    path = Path(folder) / MANIFEST_NAME
    if os.path.isfile(folder):
        within = artifact_around(folder)
        raise UsageError(
            f"{folder} is a file, and an artifact is a folder.",
            exists=f"It lies in the artifact {within}." if within else "",
            todo="Name that folder." if within else _instead(Path(folder)),
        )
    if not os.path.isfile(path):
        raise UsageError(
            f"{folder} is not an artifact: it has no {MANIFEST_NAME}.",
            exists=f"It holds: {listing(Path(folder))}.",
            todo="Make one with `rope-deploy export MODEL -o DIR`.",
        )
    manifest = read_versioned(path, _MANIFEST, SCHEMA_VERSION, what="manifest", todo="Export the model again.")
    if faults := list(_contradictions(manifest)):
        raise ConfigError(f"{path} contradicts itself:", faults, todo="Export the model again.")
    if faults := list(_elsewhere(folder, manifest)):
        raise ConfigError(f"{path} names files that are not in its folder:", faults, todo="Export the model again.")
    return manifest


def _instead(file: Path) -> str:
    make = "Make an artifact with `rope-deploy export MODEL -o DIR`"
    audit = ", or look at this file with `rope-deploy check --audit FILE`"
    return f"{make}{audit if file.suffix.lower() == GRAPH_ENDING else ''}."


def _elsewhere(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Files that must not be opened because a manifest names them: none of them has been touched yet."""
    for name in dict.fromkeys((*manifest.files, MODEL_NAME)):
        if fault := name_fault(name) or link_fault(folder, name):
            yield f"files: {name!r} is not read: {fault}."


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What no export writes, each in a sentence: somebody edited the file."""
    rotations = [rotation.name for rotation in manifest.rotations]
    for index, site in enumerate(manifest.sites):
        if site.rotation not in rotations:
            known = ", ".join(rotations) or "none"
            yield f"sites.{index}.rotation: there is no rotation {site.rotation!r}, only {known}."
        if not 0 <= site.layer < manifest.layers:
            yield f"sites.{index}.layer: {site.layer} is none of the {manifest.layers} layers."
        if min(site.num_heads, site.head_dim) < 1:
            yield f"sites.{index}: {site.num_heads} heads of {site.head_dim} elements are none."
    if len({site.key for site in manifest.sites}) != len(manifest.sites):
        yield "sites: a layer's q or k is listed twice."
    if manifest.dtype not in TOLERANCES:
        yield f"dtype: {manifest.dtype!r} is none of {', '.join(TOLERANCES)}."
    if manifest.max_position < 1:
        yield f"max_position: {manifest.max_position} leaves no position."
    for name, value in (("logits", manifest.tolerances.logits), ("rotated", manifest.tolerances.rotated)):
        if not 0 < value < float("inf"):
            yield f"tolerances.{name}: {value} is no tolerance."
    texts = [info for info in manifest.inputs if info.name == "input_ids"]
    if manifest.task == "tower" and any(isinstance(length, str) for info in texts for length in info.shape[1:]):
        yield "task: tower; a graph that takes texts of any length is none."
    if not manifest.outputs or not manifest.inputs or (manifest.task != "tower" and not texts):
        yield "inputs and outputs: a graph takes input_ids and gives at least one result."


def hash_file(path: Path) -> FileInfo:
    """SHA-256 and size of a file, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return FileInfo(bytes=path.stat().st_size, sha256=digest.hexdigest())


def changed_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names of files that are missing or differ from the hashes in the manifest."""
    changed = []
    for name, info in manifest.files.items():
        path = Path(folder) / name
        if not path.is_file() or path.stat().st_size != info.bytes or hash_file(path) != info:
            changed.append(name)
    return changed
