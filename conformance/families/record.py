"""What is known of one family after the sweep, as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rope_deploy.package_versions import package_versions

if TYPE_CHECKING:
    from conformance.families.census import Family

PACKAGES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime")

Verdict = Literal[
    "green",  # every style asked for is right, and every rotation is accounted for
    "wrong",  # a check failed
    "sites",  # right, but not every rotation was raised
    "uncached",  # right, but only without the cache that the family has
    "refused",  # declined with a reason
    "crash",  # anything else went wrong, without a reason for the user
    "timeout",
    "memory",
    "needs-package",
    "unbuildable",  # transformers itself does not build or run it
    "no-rotation",  # it builds and runs, and rotates nothing
]


@dataclass
class StyleResult:
    """One style of one family. `sites` rotations were raised; `failed` and `skipped` are ids of cases with what was
    said of them; errors are the largest of any case (of logits: absolute; of rotated q and k: relative)."""

    style: str
    verdict: Verdict
    reason: str = ""
    sites: int | None = None
    nodes: int | None = None
    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    logits_error: float | None = None
    rotated_error: float | None = None
    export_s: float | None = None
    check_s: float | None = None


@dataclass
class Record:
    """`stage` is what was under way last. `expected` rotations happen in PyTorch, at `paths`; `spread` is the
    standard deviation of the logits, `felt` how far they move when positions stride by three. `cached` says whether
    the graph has a KV cache: "" if it should not, else "yes" or why not, and what raised
    that. `trace_s` is the time of an export that all styles share; add a style's `export_s` for that of one style.
    `engine`, `ropes` (by rope type), `published` (by checkpoint) and `peers` (by exporter) are what the other parts of
    a sweep found; empty: not tried."""

    family: str
    category: str
    model: str
    stage: str = "start"
    verdict: Verdict = "crash"
    reason: str = ""
    where: str = ""
    rules: list[str] = field(default_factory=list)
    layouts: list[str] = field(default_factory=list)
    caches: list[str] = field(default_factory=list)
    cached: str = ""
    cached_where: str = ""
    expected: int | None = None
    paths: list[str] = field(default_factory=list)
    parameters: int | None = None
    spread: float | None = None
    felt: float | None = None
    styles: dict[str, StyleResult] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    ropes: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    trace_s: float | None = None
    seconds: float = 0.0
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    code: str = ""

    def write(self, folder: Path) -> None:
        path = path_of(folder, self.family)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        temporary.replace(path)


def path_of(folder: Path, family: str) -> Path:
    return folder / f"{family.replace('/', '_')}.json"


def read(folder: Path, family: str) -> Record | None:
    """The record of `family`, or None if there is none that can be read."""
    try:
        found = json.loads(path_of(folder, family).read_text())
        found["styles"] = {name: StyleResult(**one) for name, one in found["styles"].items()}
        return Record(**found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_all(folder: Path, families: Iterable[Family]) -> list[Record]:
    """The records there are of `families`."""
    return [found for family in families if (found := read(folder, family.name)) is not None]


def is_current(record: Record | None, styles: Sequence[str], *, same_code: bool) -> bool:
    """Whether `record` answers for the packages that are installed and all `styles`, and for the code if asked."""
    if record is None or record.versions != versions() or (same_code and record.code != code_digest()):
        return False
    settled = record.verdict in ("no-rotation", "unbuildable", "needs-package", "timeout", "memory")
    return settled or (record.verdict == "refused" and not record.styles) or set(styles) <= record.styles.keys()


@cache
def versions() -> dict[str, str]:
    return package_versions(PACKAGES, absent="?")


@cache
def code_digest() -> str:
    """Of rope_deploy's own code, as it was when this process began."""
    import rope_deploy

    root, digest = Path(rope_deploy.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
