"""Mistakes planted into the bare rotation, and what the diagnosis makes of them: the console parts of the examples.

No model and no runtime: random vectors are rotated wrongly, in numpy, the way a faulty export would rotate them, and
the evidence goes to the diagnosis that `rope-deploy check` uses. The shapes are those of a decoder that sees a
prompt (one row padded on the left), two steps after it, and positions up to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import ml_dtypes
import numpy as np

from docs.numbers import longrope
from faults.tf32 import tf32
from rope_deploy.artifact import TOLERANCES, Manifest, Rotation, Site
from rope_deploy.diagnosis import Observation, diagnose
from rope_deploy.parity.float64_oracle import Oracle
from rope_deploy.results.records import DiagnosisRecord
from rope_deploy.rope import (
    Default,
    DynamicNTK,
    Linear,
    Llama3,
    Proportional,
    RopeSpec,
    Yarn,
    cos_sin,
    from_angles,
    rotate,
)

ROWS = 4096
LAYERS = (0, 1, 2, 3)
PROMPT = 12
PADDED = np.array([[1] * PROMPT, [0] * 4 + [1] * (PROMPT - 4)])


@dataclass(frozen=True)
class Call:
    """`x` [B, N, S, H] to be rotated in one call, at `positions` [B, S] under `mask` [B, T]."""

    x: np.ndarray
    positions: np.ndarray
    mask: np.ndarray
    role: str

    @property
    def past(self) -> int:
        return self.mask.shape[1] - self.positions.shape[1]

    @property
    def length(self) -> int:
        return int(self.positions.max()) + 1


Planted = Callable[[Call], np.ndarray]


@dataclass(frozen=True)
class Plant:
    """A rule as it should be, and what a site does instead. `other` is the rule of other layers."""

    spec: RopeSpec
    does: Planted
    layers: tuple[int, ...] = LAYERS
    other: RopeSpec | None = None


PLAIN = RopeSpec(32, 32, False, 100_000.0, Default(), ROWS)
PARTIAL = replace(PLAIN, rotary_dim=16)
BIG = replace(PLAIN, rope_theta=1_000_000.0)
YARN = replace(PLAIN, scaling=Yarn(16.0, 512))
NTK = replace(PLAIN, scaling=DynamicNTK(2.0, 1024))


def right(spec: RopeSpec, call: Call, positions: np.ndarray | None = None, length: int | None = None) -> np.ndarray:
    """What a sound export does: fp32 throughout."""
    positions = call.positions if positions is None else positions
    cos, sin = cos_sin(spec, positions, seq_len=call.length if length is None else length)
    return rotate(call.x, cos[:, None], sin[:, None], interleaved=spec.interleaved)


def other_rule(wrong: RopeSpec, call: Call) -> np.ndarray:
    return right(wrong, call)


def standing(spec: RopeSpec, positions_of: Callable[[Call], np.ndarray], call: Call) -> np.ndarray:
    """Tokens elsewhere than they were fed; those outside the table come out as no number."""
    positions = np.broadcast_to(positions_of(call), call.positions.shape)
    return np.where((positions < ROWS)[:, None, :, None], right(spec, call, positions=positions), np.float32(np.nan))


def scaled(spec: RopeSpec, factor: float, call: Call) -> np.ndarray:
    cos, sin = (t[:, None] * np.float32(factor) for t in cos_sin(spec, call.positions, seq_len=call.length))
    return rotate(call.x, cos, sin, interleaved=spec.interleaved)


def rounded(
    spec: RopeSpec, call: Call, position=np.float32, frequency=np.float32, angle=np.float32, table=np.float32
) -> np.ndarray:
    """The model's arithmetic with a shorter type in one step."""
    angles = call.positions.astype(position).astype(np.float32)[..., None] * spec.inv_freq(call.length).astype(
        frequency
    ).astype(np.float32)
    cos, sin = from_angles(spec, angles.astype(angle).astype(np.float64))
    cos, sin = (t.astype(table).astype(np.float32)[:, None] for t in (cos, sin))
    return rotate(call.x, cos, sin, interleaved=spec.interleaved)


def through_tf32(spec: RopeSpec, call: Call) -> np.ndarray:
    angles = tf32(call.positions)[..., None] * tf32(spec.inv_freq(call.length))
    cos, sin = (t.astype(np.float32)[:, None] for t in from_angles(spec, angles.astype(np.float64)))
    return rotate(call.x, cos, sin, interleaved=spec.interleaved)


def at_end(spec: RopeSpec, call: Call) -> np.ndarray:
    part = replace(spec, head_dim=spec.rotary_dim)
    still = spec.head_dim - spec.rotary_dim
    rotated = right(part, replace(call, x=call.x[..., still:]))
    return np.concatenate([call.x[..., :still], rotated], axis=-1)


def exchanged(spec: RopeSpec, call: Call) -> np.ndarray:
    cos, sin = (t[:, None] for t in cos_sin(spec, call.positions, seq_len=call.length))
    return rotate(call.x, sin, cos, interleaved=spec.interleaved)


def still_from(spec: RopeSpec, pair: int, call: Call) -> np.ndarray:
    """A table whose columns from `pair` on hold no rotation."""
    cos, sin = (t[:, None].copy() for t in cos_sin(spec, call.positions, seq_len=call.length))
    cos[..., pair:], sin[..., pair:] = 1, 0
    return rotate(call.x, cos, sin, interleaved=spec.interleaved)


def within_prefix(spec: RopeSpec, call: Call) -> np.ndarray:
    rotating = int(np.count_nonzero(spec.inv_freq()))
    cos, sin = (t[:, None, :, :rotating] for t in cos_sin(spec, call.positions))
    return rotate(call.x, cos, sin, interleaved=False)


def single(spec: RopeSpec, pair: int, digits: int, call: Call) -> np.ndarray:
    frequency = spec.inv_freq()
    frequency[pair] = np.round(frequency[pair], digits)
    cos, sin = from_angles(spec, (call.positions.astype(np.float32)[..., None] * frequency).astype(np.float64))
    cos, sin = (t.astype(np.float32)[:, None] for t in (cos, sin))
    return rotate(call.x, cos, sin, interleaved=spec.interleaved)


def with_padding(call: Call) -> np.ndarray:
    return call.past + np.arange(call.positions.shape[1]) + 0 * call.positions


half = ml_dtypes.bfloat16

PLANTS: dict[str, Plant] = {
    "RD101": Plant(PLAIN, partial(other_rule, replace(PLAIN, interleaved=True))),
    "RD102": Plant(PLAIN, partial(other_rule, replace(PLAIN, reversed=True))),
    "RD103": Plant(PARTIAL, partial(other_rule, replace(PARTIAL, rotary_dim=32))),
    "RD104": Plant(PARTIAL, partial(at_end, PARTIAL)),
    "RD105": Plant(
        replace(PLAIN, scaling=Proportional(0.5)), partial(within_prefix, replace(PLAIN, scaling=Proportional(0.5)))
    ),
    "RD106": Plant(PLAIN, lambda call: call.x, layers=(1,)),
    "RD107": Plant(PLAIN, lambda call: right(PLAIN, replace(call, x=right(PLAIN, call)))),
    "RD108": Plant(PLAIN, lambda call: right(PLAIN, call) if call.role == "q" else call.x),
    "RD109": Plant(BIG, partial(other_rule, PLAIN), layers=(1,), other=PLAIN),
    "RD111": Plant(PLAIN, partial(exchanged, PLAIN)),
    "RD112": Plant(PLAIN, partial(still_from, PLAIN, 12)),
    "RD201": Plant(PLAIN, partial(standing, PLAIN, lambda call: call.positions + 1)),
    "RD202": Plant(
        PLAIN, partial(standing, PLAIN, lambda c: np.arange(c.positions.shape[1]) if c.past else c.positions)
    ),
    "RD203": Plant(PLAIN, partial(standing, PLAIN, with_padding)),
    "RD204": Plant(PLAIN, partial(standing, PLAIN, lambda call: call.positions[:1])),
    "RD205": Plant(
        PLAIN,
        partial(standing, PLAIN, lambda c: c.positions + (c.mask == 0).cumsum(axis=1)[:, c.past :]),
    ),
    "RD206": Plant(PLAIN, partial(standing, PLAIN, lambda call: call.positions % 512)),
    "RD207": Plant(PLAIN, partial(standing, PLAIN, lambda call: np.minimum(call.positions, 511))),
    "RD301": Plant(PLAIN, partial(other_rule, replace(PLAIN, rope_theta=10_000.0))),
    "RD302": Plant(replace(PLAIN, scaling=Llama3(8.0, 1.0, 4.0, 512)), partial(other_rule, PLAIN)),
    "RD303": Plant(YARN, partial(other_rule, replace(PLAIN, scaling=Linear(16.0)))),
    "RD304": Plant(replace(PLAIN, scaling=Linear(8.0)), partial(other_rule, replace(PLAIN, scaling=Linear(2.0)))),
    "RD305": Plant(
        replace(PLAIN, scaling=Yarn(32.0, 512, truncate=False)),
        partial(other_rule, replace(PLAIN, scaling=Yarn(32.0, 512))),
    ),
    "RD306": Plant(YARN, partial(other_rule, replace(PLAIN, scaling=Yarn(16.0, 512, beta_fast=1, beta_slow=32)))),
    "RD307": Plant(NTK, lambda call: right(NTK, call, length=1024)),
    "RD308": Plant(
        replace(longrope(), max_position=2 * ROWS),
        lambda call: right(longrope(), call, length=4097 if call.length <= 4096 else 4096),
    ),
    "RD309": Plant(PLAIN, partial(single, PLAIN, 3, 3)),
    "RD401": Plant(YARN, partial(scaled, YARN, 1 / YARN.attention_scaling)),
    "RD402": Plant(YARN, partial(scaled, YARN, YARN.attention_scaling)),
    "RD403": Plant(PLAIN, partial(scaled, PLAIN, 1.1)),
    "RD501": Plant(PLAIN, partial(rounded, PLAIN, position=half)),
    "RD502": Plant(PLAIN, partial(through_tf32, PLAIN)),
    "RD503": Plant(PLAIN, partial(rounded, PLAIN, table=half)),
    "RD504": Plant(PLAIN, partial(rounded, PLAIN, frequency=np.float16)),
    "RD900": Plant(PLAIN, lambda call: right(PLAIN, call)[..., ::-1]),
}


def diagnosed(plant: Plant) -> tuple[DiagnosisRecord, ...]:
    """What the diagnosis says of a plant: one record a mistake."""
    manifest = manifest_of(plant)
    return diagnose(manifest, "ort", tuple(evidence(plant, manifest)))


def manifest_of(plant: Plant) -> Manifest:
    named = {"rope_0": plant.spec, **({"rope_1": plant.other} if plant.other else {})}
    rotations = tuple(
        Rotation(name, spec.to_dict(), f"{name}.cos", f"{name}.sin", rows_of(plant), "table")
        for name, spec in named.items()
    )
    sites = tuple(
        Site(
            layer,
            role,
            "rope_1" if plant.other and layer not in plant.layers else "rope_0",
            2,
            plant.spec.head_dim,
            "BNSH",
            None,
            None,
        )
        for layer in LAYERS
        for role in ("q", "k")
    )
    return Manifest(
        "planted",
        "llama",
        "decoder",
        True,
        len(LAYERS),
        "onnx",
        23,
        "float32",
        "model",
        rows_of(plant),
        False,
        (),
        (),
        rotations,
        sites,
        TOLERANCES["float32"],
    )


def rows_of(plant: Plant) -> int:
    return min(plant.spec.max_position, 2 * ROWS)


def evidence(plant: Plant, manifest: Manifest) -> Iterator[Observation]:
    """Every site in every call, the layers that are not planted sound."""
    oracle, random = Oracle(manifest), np.random.default_rng(0)
    for case, positions, mask in calls(rows_of(plant)):
        for site in manifest.sites:
            x = random.standard_normal((*positions.shape, 2, site.head_dim)).astype(np.float32).swapaxes(1, 2)
            call = Call(x, positions, mask, site.role)
            spec = plant.other if plant.other and site.layer not in plant.layers else plant.spec
            rotated = plant.does(call) if site.layer in plant.layers else right(spec, call)
            exact = oracle.rotated(site, x, positions)
            yield Observation(
                case=case,
                site=site,
                unrotated=x,
                rotated=rotated,
                positions=positions,
                mask=mask,
                real=mask[:, -positions.shape[1] :] == 1,
                budget=oracle.rounding(site, exact, positions),
                errors=partial(_errors, rotated.astype(np.float64)),
            )


def calls(rows: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(case, positions [B, S], mask [B, T]) of each call."""
    prompt = np.maximum(PADDED.cumsum(axis=1) - 1, 0)
    yield "prefill", prompt, PADDED
    mask = PADDED
    for _ in range(2):
        mask = np.concatenate([mask, np.ones((2, 1), np.int64)], axis=1)
        yield "decode", mask.sum(axis=1, keepdims=True) - 1, mask
    spread = np.unique(np.r_[np.linspace(0, rows // 2 - 1, 40).astype(np.int64), 508:518])
    yield "strided", np.stack([spread, spread[::-1]]), np.ones((2, len(spread)), np.int64)
    last = np.arange(rows - 24, rows)
    yield "last-positions", np.stack([last, last - 5]), np.ones((2, 24), np.int64)


def _errors(rotated: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return np.abs(rotated - prediction).max(axis=(1, 3))
