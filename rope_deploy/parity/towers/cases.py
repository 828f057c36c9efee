"""The cases of a tower: which inputs it is fed, made from the manifest alone.

A tower has no tokens and no positions to choose: everything is in the values of its inputs. Besides numbers drawn at
random, of the usual size, ten times fainter and three times stronger, it is fed an input that is the same everywhere:
then tokens differ by their position alone, and only the rotation tells them apart. Where the batch is open, one image
and several are tried; an input of another size must be refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rope_deploy.artifact import Manifest, TensorInfo
from rope_deploy.errors import UsageError
from rope_deploy.runtimes import Arrays

BATCH = 2  # where the batch is open and a case does not say
FAINT, STRONG = 0.1, 3.0
DRAWN_IDS = 64  # token ids are drawn below this number
FEWEST_IDS = 2  # every vocabulary has these


@dataclass(frozen=True)
class TowerCase:
    """Inputs of `batch` images (None: BATCH where the batch is open), drawn with the seed `draw` and scaled.

    `alike`: one number everywhere. `untouched`: the reference is the model as transformers runs it. `refusal`: the
    error that must be raised, since an axis of the main input has one element too many.
    """

    id: str
    detail: str
    batch: int | None = None
    draw: int = 0
    scale: float = 1.0
    alike: bool = False
    untouched: bool = False
    refusal: type[UsageError] | None = None
    skipped: str = ""


def tower_cases(manifest: Manifest) -> tuple[TowerCase, ...]:
    """Every case that the graph of a tower must pass."""
    cases = [
        TowerCase("example", "numbers drawn at random"),
        TowerCase("untouched", "numbers drawn at random, against the model as transformers runs it", untouched=True),
        TowerCase("redrawn", "other numbers", draw=1),
        TowerCase("alike", "the same number everywhere: tokens differ by their place alone", alike=True),
        TowerCase("faint", f"numbers {FAINT:g} times as large", draw=2, scale=FAINT),
        TowerCase("strong", f"numbers {STRONG:g} times as large", draw=3, scale=STRONG),
    ]
    if any("batch" in info.shape for info in manifest.inputs):
        cases.append(TowerCase("single", "one image or recording", batch=1))
        cases.append(TowerCase("batch", "five images or recordings", batch=5))
    cases.append(TowerCase("refuses-other-size", "an input of another size than it was made for", refusal=UsageError))
    return tuple(cases)


def feeds_for(case: TowerCase, manifest: Manifest, seed: int = 0) -> Arrays:
    """The graph's inputs; the same arrays every time for one case and seed."""
    rng = np.random.default_rng([seed, case.draw])
    feeds = {info.name: _drawn(info, case, manifest, rng) for info in manifest.inputs}
    if case.refusal:
        name = manifest.inputs[0].name
        feeds[name] = np.concatenate([feeds[name], feeds[name][..., :1]], axis=-1)
    return feeds


def _drawn(info: TensorInfo, case: TowerCase, manifest: Manifest, rng: np.random.Generator) -> np.ndarray:
    shape = [size if isinstance(size, int) else case.batch or BATCH for size in info.shape]
    if "mask" in info.name:
        return np.ones(shape, info.dtype)
    if info.dtype.startswith(("int", "uint", "bool")):
        return rng.integers(0, min(manifest.vocab_size or FEWEST_IDS, DRAWN_IDS), shape).astype(info.dtype)
    numbers = np.ones(shape) if case.alike else rng.standard_normal(shape)
    return (case.scale * numbers).astype(info.dtype)


def fixed_arrays(manifest: Manifest) -> Arrays:
    """The arrays that PyTorch is given besides the graph's inputs: those that the graph was traced with."""
    return {name: np.array(fixed.values, fixed.dtype) for name, fixed in manifest.fixed.items()}
