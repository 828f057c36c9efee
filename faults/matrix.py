"""Every fault in every family, type, style and layer it applies to; and artifacts nobody touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from zlib import crc32

from benchmarks.common import VARIANTS
from faults.judged import judged
from faults.mistakes import FAULTS, Fault
from faults.models import FAMILIES, LONG, MODELS
from faults.workshop import Model, Workshop, mutated
from rope_deploy.artifact import load_manifest
from rope_deploy.parity.cases import Set

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Trial:
    """One artifact checked. `layers` are those that are wrong in it, () for an artifact nobody touched.

    `means`: "natural" through what the style offers, "rebuilt" by standard operators, "" if untouched.
    """

    family: str
    dtype: str
    style: str
    seed: int
    fault: str
    code: str
    means: str
    layers: tuple[int, ...]
    caught: bool
    named: bool
    message: str
    seconds: float

    @property
    def text(self) -> str:
        where = "untouched" if not self.fault else f"{self.fault} in {list(self.layers)}, {self.means}"
        return f"{self.family} {self.dtype} {self.style}: {where}"

    def as_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Variant:
    """Where and how a fault is planted. `style` is the name of one of VARIANTS; `layers` None: all it applies to."""

    style: str
    layers: tuple[int, ...] | None = None
    natural: bool = False


def styles_of(workshop: Workshop, model: Model) -> tuple[str, ...]:
    """The names of the VARIANTS that differ: a style that fused no attention is the same with and without it."""
    return tuple(
        name
        for name, one in VARIANTS.items()
        if one.fused_attention or load_manifest(workshop.artifact(model, one.style)).fused_attention
    )


def applicable(fault: Fault, model: Model) -> bool:
    long = MODELS[model.family].settings.get("max_position_embeddings", 0) >= LONG
    return model.dtype in fault.dtypes and (long or not fault.long)


def variants(workshop: Workshop, model: Model, fault: Fault) -> list[Variant]:
    """Every style, in all layers and in the last one alone, by what the style offers and by standard operators."""
    if not applicable(fault, model):
        return []
    found = []
    for style in styles_of(workshop, model):
        last = (max(site.layer for site in load_manifest(workshop.artifact(model, style)).sites),)
        scopes: tuple[tuple[int, ...] | None, ...] = (None, last) if fault.per_layer else (None,)
        found += [Variant(style, layers, natural) for layers in scopes for natural in (True, False)]
    return found


def planted(workshop: Workshop, model: Model, faults: Iterable[Fault], most: int | None = None) -> Iterator[Trial]:
    """Each fault in every way it applies; `most` takes so many of them, others for each fault and model."""
    for number, fault in enumerate(faults):
        every, done = variants(workshop, model, fault), 0
        first = crc32(f"{model} {number}".encode()) % max(1, len(every))
        for variant in (*every[first:], *every[:first]):
            if done == most:
                break
            if (trial := attempt(workshop, model, fault, variant)) is not None:
                done += 1
                yield trial


def attempt(workshop: Workshop, model: Model, fault: Fault, variant: Variant) -> Trial | None:
    """One fault planted and the quick set of cases run; None where it does not apply."""
    began = time.perf_counter()
    artifact = workshop.artifact(model, variant.style)
    with mutated(artifact, artifact.with_suffix(".mutant"), fault, variant.layers, natural=variant.natural) as mutant:
        if not mutant.layers:
            return None
        verdict = judged(workshop.check(model, mutant.folder, "quick"), fault, mutant.layers)
    return Trial(
        family=model.family,
        dtype=model.dtype,
        style=variant.style,
        seed=model.seed,
        fault=fault.id,
        code=fault.code,
        means="natural" if variant.natural else "rebuilt",
        layers=mutant.layers,
        caught=verdict.caught,
        named=verdict.named,
        message=verdict.message,
        seconds=round(time.perf_counter() - began, 3),
    )


def untouched(workshop: Workshop, model: Model, style: str, seed: int, which: Set = "full") -> Trial:
    """The artifact as it was exported; `seed` draws other tokens and positions. `caught` is a false alarm."""
    began = time.perf_counter()
    outcome = workshop.check(model, workshop.artifact(model, style), which, seed)
    alarm = outcome.failed or bool(outcome.diagnoses)
    messages = [f"{record.case}: {record.message}" for record in outcome.records if record.verdict == "failed"]
    message = "; ".join([*messages, *(f"{d.code} {d.explanation}" for d in outcome.diagnoses)])
    about = model.family, model.dtype, style, seed, "", "", "", ()
    return Trial(*about, alarm, not alarm, message, round(time.perf_counter() - began, 3))


def real(
    workshop: Workshop,
    model: Model,
    faults: Iterable[Fault],
    seeds: int,
    most: int | None,
    progress: Callable[[Trial], None],
) -> list[Trial]:
    """One model with trained weights: `seeds` untouched runs of the quick set in every style, and every fault."""
    trials: list[Trial] = []
    for style in styles_of(workshop, model):
        for seed in range(seeds):
            trials.append(untouched(workshop, model, style, seed, "quick"))
            progress(trials[-1])
    for trial in planted(workshop, model, faults, most):
        trials.append(trial)
        progress(trial)
    workshop.forget(model)
    return trials


def everything(workshop: Workshop, seeds: int, most: int | None, progress: Callable[[Trial], None]) -> list[Trial]:
    """The whole matrix, model by model: `seeds` untouched runs of each artifact, and every fault in `most` ways.

    Weights are drawn anew for every second seed, tokens and positions for each.
    """
    trials: list[Trial] = []

    def done(trial: Trial) -> None:
        trials.append(trial)
        progress(trial)

    for family in FAMILIES:
        for dtype in DTYPES:
            for weights in range(2):
                model = Model(family, dtype, weights)
                for style in styles_of(workshop, model):
                    for seed in range(weights, seeds, 2):
                        done(untouched(workshop, model, style, seed))
                for trial in planted(workshop, model, FAULTS if weights == 0 else (), most):
                    done(trial)
                workshop.forget(model)
    return trials
