"""Families through all parts of the sweep, each part in a process of its own, each record written after each part."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from conformance.families import record, workers
from conformance.families.census import TEXT, Family
from conformance.families.record import Record
from conformance.families.workers import Job, Plan

PEERED = ("decoder", "masked-lm")
# What every child needs, down to what is only imported on first use.
IMPORTED = (
    "onnxruntime",
    "onnxscript.function_libs.torch_lib.ops",
    "onnxscript.rewriter.rules.common",
    "sympy.tensor.tensor",
    "torch._export.non_strict_utils",
    "torch._functorch.aot_autograd",
    "torch.export._trace",
    "torch.fx.experimental.symbolic_shapes",
    "torch.onnx._internal.exporter._core",
    "transformers.generation.utils",
    "conformance.families.engines",
    "conformance.families.judge",
    "conformance.families.peers",
    "conformance.families.published",
    "conformance.families.ropes",
    "rope_deploy.export",
    "rope_deploy.graph",
    "rope_deploy.parity",
    "rope_deploy.runs.check",
    "rope_deploy.runs.build",
)


@dataclass(frozen=True)
class Sweep:
    """What is done with every family. Its record goes to `out`, and with `keep` its model and artifacts to a folder
    of its name there. `seconds` and `megabytes` limit each process. `engines`, `ropes`, `published` and `peers` are
    parts that follow the styles; `briefly`: of published rules one of each kind. What a record has is not done again,
    unless `again`, or `not_green` and it is not green, or `same_code` and it was done with other code of ours."""

    out: Path
    styles: Sequence[str]
    seconds: float = 120.0
    megabytes: float = 6000.0
    engines: bool = False
    ropes: bool = False
    published: bool = False
    briefly: bool = False
    peers: bool = False
    keep: Path | None = None
    again: bool = False
    not_green: bool = False
    same_code: bool = False

    def run(self, families: Iterable[Family], jobs: int = 1) -> Iterator[Record]:
        """Do what is missing of each, up to `jobs` at a time; the records of those that had something missing."""
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        return filter(None, workers.run((self._plan(family) for family in families), jobs))

    def _plan(self, family: Family) -> Plan:
        found, changed = record.read(self.out, family.name), False
        with self._folder(family) as work:
            if self._stale(family, found):
                found, changed = (yield from self._through_styles(family, found, work)), True
            for part in (self._through_engine, self._through_ropes, self._through_published, self._through_peers):
                changed |= yield from part(family, found, work)
        return found if changed else None

    def _stale(self, family: Family, found: Record | None) -> bool:
        """Whether the styles of `family` are to be done."""
        if self.again or not record.is_current(found, self.styles, same_code=self.same_code):
            return True
        if found.verdict != "green":
            return self.not_green
        if self.engines and not found.engine and family.category not in TEXT:
            return True  # an engine is built from the artifacts: only a text needs no example to be traced with
        return self.keep is not None and not self._kept(family).exists()

    def _kept(self, family: Family) -> Path:
        return record.path_of(self.keep, family.name).with_suffix("")

    @contextmanager
    def _folder(self, family: Family) -> Iterator[Path]:
        """An empty folder for a family's files, which stays if it is to be kept and its plan is carried out."""
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="family-", dir=self.keep, ignore_cleanup_errors=True) as name:
            yield (work := Path(name, "work"))
            if self.keep is not None and (work / "exported").exists():
                shutil.rmtree(self._kept(family), ignore_errors=True)
                work.rename(self._kept(family))

    def _job(self, work: Callable[[], object], log: str, times: int = 1) -> Job:
        import_all()
        path = record.path_of(self.out / "logs", log).with_suffix(".log")
        return Job(work, path, self.seconds * times, self.megabytes)

    def _through_styles(self, family: Family, before: Record | None, work: Path) -> Plan:
        """The new record, written even if the process comes to a bad end."""
        from conformance.families.judge import judge

        work.mkdir()
        record.path_of(self.out, family.name).unlink(missing_ok=True)
        end, message = yield self._job(partial(judge, family, self.styles, work, self.out), family.name)
        found = record.read(self.out, family.name) or Record(family.name, family.category, family.model)
        if end != "done":
            found.verdict, found.reason = end, f"{message} It was at: {found.stage}."
            found.versions, found.code = record.versions(), record.code_digest()
        if before is not None and before.versions == found.versions and not (self.again and self.peers):
            found.peers = before.peers  # they do not depend on code of ours
        found.write(self.out)
        return found

    def _through_engine(self, family: Family, found: Record, work: Path) -> Plan:
        if not self.engines or found.verdict != "green" or found.engine:
            return False
        from conformance.families.engines import judge_engine

        work.mkdir(exist_ok=True)
        ended = yield self._job(partial(judge_engine, family, work), f"{family.name}-engine")
        found.engine = _answer(work / "engine.json", ended)
        for file in work.glob("family.engine*"):  # large, and nobody's to keep
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        found.write(self.out)
        return True

    def _through_ropes(self, family: Family, found: Record, work: Path) -> Plan:
        """Every rope type of a decoder."""
        if not self.ropes or family.category != "decoder" or found.verdict not in ("green", "uncached"):
            return False
        from conformance.families.ropes import TYPES, judge_ropes

        if found.rules == ["default"]:  # which is what the styles were checked with
            found.ropes.setdefault("default", {"verdict": found.verdict, "reason": found.reason})
        return (yield from self._one_by_one(family, found, work, "ropes", TYPES, judge_ropes, self.styles))

    def _through_published(self, family: Family, found: Record, work: Path) -> Plan:
        """The rules that its published checkpoints have."""
        from conformance.families.published import PUBLISHED, SUBSET, SUBSET_STYLES, judge_published

        titles, styles = tuple(PUBLISHED.get(family.name, ())), self.styles
        if self.briefly:
            titles, styles = (titles[:1] if family.name in SUBSET else ()), SUBSET_STYLES
        if not self.published or not found.expected:
            return False
        return (yield from self._one_by_one(family, found, work, "published", titles, judge_published, styles))

    def _one_by_one(
        self,
        family: Family,
        found: Record,
        work: Path,
        part: str,
        names: Sequence[str],
        judge: Callable[..., None],
        styles: Sequence[str],
    ) -> Plan:
        """What `judge` finds of each of `names`, into the `part` of a record. One that ends its process badly is noted,
        and the others go on."""
        known: dict[str, dict[str, Any]] = getattr(found, part)
        todo = [name for name in names if name not in known]
        changed = bool(todo)
        work.mkdir(exist_ok=True)
        while todo:
            (answer := work / f"{part}.json").unlink(missing_ok=True)
            task = partial(judge, family, tuple(todo), styles, found.expected, work)
            end, message = yield self._job(task, f"{family.name}-{part}", times=len(todo))
            known |= json.loads(answer.read_text()) if answer.exists() else {}
            todo = [name for name in todo if name not in known]
            if todo:
                known[todo.pop(0)] = {"verdict": end if end != "done" else "crash", "reason": message}
            found.write(self.out)
        return changed

    def _through_peers(self, family: Family, found: Record, work: Path) -> Plan:
        """What each other exporter makes of a text family that rotates."""
        if not self.peers or family.category not in PEERED or not found.expected:
            return False
        from conformance.families.peers import PEERS, judge_peer

        todo = [name for name in PEERS if name not in found.peers]
        for peer in todo:
            folder = work / f"peer {peer}"
            folder.mkdir(parents=True, exist_ok=True)
            ended = yield self._job(partial(judge_peer, family, peer, folder), f"{family.name}-{peer}")
            found.peers[peer] = {"peer": peer, **_answer(folder / "peer.json", ended)}
            shutil.rmtree(folder, ignore_errors=True)
            found.write(self.out)
        return bool(todo)


def _answer(path: Path, ended: tuple[str, str]) -> dict[str, Any]:
    """What a process left at `path`; else how it ended."""
    if path.exists():
        return json.loads(path.read_text())
    end, message = ended
    return {"verdict": end if end != "done" else "crash", "reason": message}


@cache
def import_all() -> None:
    """Imported before the first fork, and never used here: threads do not survive a fork."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    import transformers

    for name in IMPORTED:
        importlib.import_module(name)
    transformers.logging.set_verbosity_error()
