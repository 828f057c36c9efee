"""Rules of the length, and how long a vector becomes: RD307, RD308, RD401 to RD403."""

from __future__ import annotations

from dataclasses import replace

from faults.mistakes.fault import Fault, RotationChange, at_sites
from faults.plant_rotation import AppliedRotation, Sound
from rope_deploy.rope import LongRope, tables


def frozen(length: int | None = None) -> RotationChange:
    """Every call is rotated as one of `length` tokens is (None: of as many as the table has)."""

    def edit(sound: Sound) -> AppliedRotation | None:
        if not sound.spec.depends_on_length:
            return None
        end = length or sound.graph.manifest.max_position
        return sound.stacked([tables(sound.spec, rows, seq_len=end) for rows, _ in sound.lengths])

    return edit


def short_and_long_swapped(sound: Sound) -> AppliedRotation | None:
    rule = sound.spec.scaling
    if not isinstance(rule, LongRope):
        return None
    swapped = replace(rule, short_factor=rule.long_factor, long_factor=rule.short_factor)
    return sound.by_rule(replace(sound.spec, scaling=swapped))


def longer(change: float) -> RotationChange:
    return lambda sound: sound.applied.cast(sound.applied.cos * change, sound.applied.sin * change)


def attention_scaling(times: int) -> RotationChange:
    def edit(sound: Sound) -> AppliedRotation | None:
        scaling = sound.spec.attention_scaling
        return None if scaling == 1 else longer(scaling ** (times - 1))(sound)

    return edit


LENGTH = (
    Fault("frozen-short", "RD307", at_sites(frozen(1))),
    Fault("frozen-long", "RD307", at_sites(frozen())),
    Fault("frozen-middle", "RD307", at_sites(frozen(64))),
    Fault("short-long-swapped", "RD308", at_sites(short_and_long_swapped)),
    Fault("attention-scaling-missing", "RD401", at_sites(attention_scaling(0))),
    Fault("attention-scaling-twice", "RD402", at_sites(attention_scaling(2))),
    Fault("attention-scaling-twice-k", "RD402", at_sites(attention_scaling(2), "k")),
    Fault("too-long", "RD403", at_sites(longer(1.25))),
    Fault("too-long-by-a-hair", "RD403", at_sites(longer(1.003))),
    Fault("too-short", "RD403", at_sites(longer(0.9))),
)
