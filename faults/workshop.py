"""Exports, references and checks: what every planted fault needs, each made once."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import VARIANTS
from faults.artifact_graph import Graph
from faults.mistakes import Fault
from faults.models import MODELS
from rope_deploy.artifact import load_manifest
from rope_deploy.export import prepare, write
from rope_deploy.export.prepare_model import Prepared
from rope_deploy.parity import PROSE, Outcome, check
from rope_deploy.parity.cases import Set
from rope_deploy.runtimes import Memoized, open_ort, open_torch


@dataclass(frozen=True)
class Model:
    """A model in one type; a tiny one from one seed."""

    family: str
    dtype: str = "float32"
    seed: int = 0


@dataclass
class Workshop:
    """Artifacts of models in `folder`, and their references. Everything is made when first asked for."""

    folder: Path
    _prepared: dict[Model, Prepared] = field(default_factory=dict)
    _references: dict[Model, Memoized] = field(default_factory=dict)
    _written: dict[tuple[Model, str], Path] = field(default_factory=dict)

    def prepared(self, model: Model) -> Prepared:
        if model not in self._prepared:
            self._prepared[model] = prepare(MODELS[model.family].load(model.dtype, model.seed))
        return self._prepared[model]

    def reference(self, model: Model) -> Memoized:
        if model not in self._references:
            self._references[model] = Memoized(open_torch(self.prepared(model).loaded))
        return self._references[model]

    def artifact(self, model: Model, variant: str) -> Path:
        """The artifact of one of VARIANTS, by name."""
        if (model, variant) not in self._written:
            folder = self.folder / f"{model.family}-{model.dtype}-{model.seed}" / variant
            made = VARIANTS[variant]
            write(self.prepared(model), folder, made.style, fused_attention=made.fused_attention)
            self._written[model, variant] = folder
        return self._written[model, variant]

    def check(self, model: Model, folder: Path, which: Set, seed: int = 0) -> Outcome:
        """A set of cases of the artifact in `folder`, which may differ from what its hashes say."""
        with open_ort(folder, taps=True, verify=False, threads=1) as candidate:
            return check(
                load_manifest(folder), self.reference(model), candidate, which=which, seed=seed, text=self.text(model)
            )

    def text(self, model: Model) -> Sequence[int]:
        """What a model that can read is fed; random tokens are for tiny ones."""
        tokenizer = self.prepared(model).loaded.tokenizer
        return () if tokenizer is None else tokenizer(PROSE)["input_ids"]

    def forget(self, model: Model) -> None:
        """Free the memory and the disk that a model takes."""
        self._references.pop(model, None)
        self._prepared.pop(model, None)
        for key in [key for key in self._written if key[0] == model]:
            shutil.rmtree(self._written.pop(key).parent, ignore_errors=True)


@dataclass(frozen=True)
class Mutant:
    """A broken copy of an artifact, and the layers that are wrong in it; () if the fault does not apply to it."""

    folder: Path
    layers: tuple[int, ...]


@contextmanager
def mutated(
    artifact: Path, folder: Path, fault: Fault, layers: Collection[int] | None, *, natural: bool
) -> Iterator[Mutant]:
    """`artifact` with `fault` in `layers`, in `folder` while it is needed. The two share a file system."""
    graph = Graph(artifact)
    wrong = fault.plant(graph, layers, natural)
    try:
        yield Mutant(graph.write(folder) if wrong else folder, wrong)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
