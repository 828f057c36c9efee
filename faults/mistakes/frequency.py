"""How far a pair rotates: RD301 to RD306 and RD309."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from faults.mistakes.fault import Fault, RotationChange, at_sites
from faults.plant_rotation import AppliedRotation, Sound
from rope_deploy.rope import Default, Linear, RopeSpec, Scaling, Yarn

Rule = Callable[[Scaling], Scaling | None]


def theta(change: Callable[[float], float]) -> RotationChange:
    return lambda sound: sound.by_rule(replace(sound.spec, rope_theta=change(sound.spec.rope_theta)))


def other_rule(change: Rule, *, keep_length: bool = False) -> RotationChange:
    """Another rule, or the same with other numbers. `keep_length`: vectors stay as long as they were."""

    def edit(sound: Sound) -> AppliedRotation | None:
        scaling = change(sound.spec.scaling)
        if scaling is None:
            return None
        spec: RopeSpec = replace(sound.spec, scaling=scaling)
        applied, ratio = sound.by_rule(spec), sound.spec.attention_scaling / spec.attention_scaling
        return applied.cast(applied.cos * ratio, applied.sin * ratio) if keep_length else applied

    return edit


def only(rope_type: str, **settings: Any) -> Rule:
    """The same rule with other settings, for sites that follow it."""
    return lambda scaling: replace(scaling, **settings) if scaling.rope_type == rope_type else None


def no_rule(scaling: Scaling) -> Scaling | None:
    """Without dynamic NTK, which is then no other mistake than to stand still at the first length."""
    return None if scaling.rope_type in ("default", "dynamic") else Default()


def linear(scaling: Scaling) -> Scaling | None:
    """Plain interpolation by the factor of the rule."""
    factor = getattr(scaling, "factor", 2.0)
    return None if scaling.rope_type in ("linear", "proportional", "dynamic") or factor == 1 else Linear(factor=factor)


def yarn(scaling: Scaling) -> Scaling | None:
    """The other rule with a factor and an original length."""
    if scaling.rope_type not in ("linear", "llama3"):
        return None
    original = getattr(scaling, "original_max_position_embeddings", 256)
    return Yarn(factor=scaling.factor, original_max_position_embeddings=original)  # type: ignore[attr-defined]


def one_pair(change: float) -> RotationChange:
    """The middle one of the pairs that rotate has another frequency. Of two pairs it would be rope_theta."""

    def edit(sound: Sound) -> AppliedRotation | None:
        changed, rotating = np.ones(len(sound.applied.pairs), np.float32), np.count_nonzero(sound.spec.inv_freq())
        if rotating < 3:
            return None
        changed[rotating // 2] = change
        return sound.by_angles(lambda positions, inv_freq: positions * (inv_freq * changed))

    return edit


def untruncated(scaling: Scaling) -> Scaling | None:
    return replace(scaling, truncate=not scaling.truncate) if isinstance(scaling, Yarn) else None


FREQUENCY = (
    Fault("theta-large", "RD301", at_sites(theta(lambda base: base * 50))),
    Fault("theta-small", "RD301", at_sites(theta(lambda base: base / 4))),
    Fault("theta-near", "RD301", at_sites(theta(lambda base: base * 1.1))),
    Fault("theta-nearest", "RD301", at_sites(theta(lambda base: base * 1.01))),
    Fault("theta-large-k", "RD301", at_sites(theta(lambda base: base * 50), "k")),
    Fault("rule-dropped", "RD302", at_sites(other_rule(no_rule))),
    Fault("linear-instead", "RD303", at_sites(other_rule(linear))),
    Fault("yarn-instead", "RD303", at_sites(other_rule(yarn))),
    # Not half the factor: all angles would double, which is a rotation applied twice.
    Fault("linear-factor", "RD304", at_sites(other_rule(only("linear", factor=3.0)))),
    Fault("linear-factor-larger", "RD304", at_sites(other_rule(only("linear", factor=10.0)))),
    Fault("llama3-factor", "RD304", at_sites(other_rule(only("llama3", factor=32.0)))),
    Fault("yarn-factor", "RD304", at_sites(other_rule(only("yarn", factor=16.0)))),
    Fault("yarn-factor-same-length", "RD304", at_sites(other_rule(only("yarn", factor=16.0), keep_length=True))),
    Fault("dynamic-factor", "RD304", at_sites(other_rule(only("dynamic", factor=2.0)))),
    Fault("proportional-factor", "RD304", at_sites(other_rule(only("proportional", factor=3.0)))),
    Fault("yarn-truncate", "RD305", at_sites(other_rule(untruncated))),
    Fault("yarn-beta-fast", "RD306", at_sites(other_rule(only("yarn", beta_fast=8.0)))),
    Fault("yarn-beta-slow", "RD306", at_sites(other_rule(only("yarn", beta_slow=4.0)))),
    Fault("one-pair", "RD309", at_sites(one_pair(1.5))),
)
