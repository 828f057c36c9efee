"""How a pair is rotated: RD101 to RD109, RD111 and RD112."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from faults.mistakes.fault import Fault, RotationChange, at_sites
from faults.plant_rotation import AppliedRotation, Sound, half_split, interleaved
from rope_deploy.errors import UsageError


def swapped_layout(sound: Sound) -> AppliedRotation:
    other = half_split if sound.spec.interleaved else interleaved
    return replace(sound.applied, pairs=other(sound.spec.rotary_dim))


def negated_sine(sound: Sound) -> AppliedRotation:
    return sound.applied.cast(sound.applied.cos, -sound.applied.sin)


def full_width(sound: Sound) -> AppliedRotation | None:
    return _as_wide(sound, sound.spec.head_dim)


def half_width(sound: Sound) -> AppliedRotation | None:
    return _as_wide(sound, sound.spec.rotary_dim // 2)


def _as_wide(sound: Sound, rotary_dim: int) -> AppliedRotation | None:
    """The rule followed for another rotary_dim, where it can be."""
    if rotary_dim == sound.spec.rotary_dim or rotary_dim < 4 or sound.spec.scaling.rope_type == "proportional":
        return None
    try:
        spec = replace(sound.spec, rotary_dim=rotary_dim)
    except UsageError:
        return None
    pairs = (interleaved if spec.interleaved else half_split)(rotary_dim)
    return replace(sound.by_rule(spec), pairs=pairs)


def other_end(sound: Sound) -> AppliedRotation | None:
    rest = sound.spec.head_dim - sound.spec.rotary_dim
    return replace(sound.applied, pairs=sound.applied.pairs + rest) if rest else None


def prefix_across(sound: Sound) -> AppliedRotation | None:
    """A partial rotation that pairs i with i + H/2."""
    width, head_dim = sound.spec.rotary_dim, sound.spec.head_dim
    if width == head_dim or sound.spec.interleaved:
        return None
    first = np.arange(width // 2)
    return replace(sound.applied, pairs=np.stack([first, first + head_dim // 2], axis=1))


def across_prefix(sound: Sound) -> AppliedRotation | None:
    """A proportional rotation that pairs within the prefix that rotates."""
    if sound.spec.scaling.rope_type != "proportional":
        return None
    rotating = int(np.count_nonzero(sound.spec.inv_freq()))
    cut = sound.applied.cast(sound.applied.cos[:, :rotating], sound.applied.sin[:, :rotating])
    return replace(cut, pairs=half_split(2 * rotating))


def missing(sound: Sound) -> AppliedRotation:
    return replace(sound.applied, times=0)


def doubled(sound: Sound) -> AppliedRotation:
    return replace(sound.applied, times=2)


def exchanged(sound: Sound) -> AppliedRotation:
    return sound.applied.cast(sound.applied.sin, sound.applied.cos)


def ahead(phase: float) -> RotationChange:
    """Every pair is rotated by `phase` radians more."""

    def edit(sound: Sound) -> AppliedRotation:
        z = (sound.applied.cos.astype(np.float64) + 1j * sound.applied.sin.astype(np.float64)) * np.exp(1j * phase)
        return sound.applied.cast(z.real, z.imag)

    return edit


def end_of_table(cos: float | None, sin: float | None) -> RotationChange:
    """The last quarter of the columns that rotate, and those behind, hold these numbers (None: what they should)."""

    def edit(sound: Sound) -> AppliedRotation | None:
        rotating = np.count_nonzero(sound.spec.inv_freq())
        if rotating < 2:
            return None
        first = rotating - max(1, rotating // 4)
        made = [sound.applied.cos.copy(), sound.applied.sin.copy()]
        for table, number in zip(made, (cos, sin), strict=True):
            if number is not None:
                table[:-1, first:] = number  # the row behind the last position stays no number
        return sound.applied.cast(*made)

    return edit


def of_another_layer_type(sound: Sound) -> AppliedRotation | None:
    for rotation in sound.graph.manifest.rotations:
        if rotation.name != sound.rotation.name and rotation.spec:
            other = Sound(sound.graph, sound.site, rotation).applied
            return sound.applied.cast(other.cos, other.sin) if other.cos.shape == sound.applied.cos.shape else None
    return None


LAYOUT = (
    Fault("layout-swapped", "RD101", at_sites(swapped_layout)),
    Fault("layout-swapped-k", "RD101", at_sites(swapped_layout, "k")),
    Fault("sine-negated", "RD102", at_sites(negated_sine)),
    Fault("sine-negated-q", "RD102", at_sites(negated_sine, "q")),
    Fault("rotary-dim-full", "RD103", at_sites(full_width)),
    Fault("rotary-dim-half", "RD103", at_sites(half_width)),
    Fault("other-end", "RD104", at_sites(other_end)),
    Fault("prefix-across", "RD105", at_sites(prefix_across)),
    Fault("across-prefix", "RD105", at_sites(across_prefix)),
    Fault("missing", "RD106", at_sites(missing)),
    Fault("doubled", "RD107", at_sites(doubled)),
    Fault("doubled-k", "RD107", at_sites(doubled, "k")),
    Fault("only-k", "RD108", at_sites(missing, "q")),
    Fault("only-q", "RD108", at_sites(missing, "k")),
    Fault("exchanged", "RD111", at_sites(exchanged)),
    Fault("exchanged-k", "RD111", at_sites(exchanged, "k")),
    Fault("quarter-turn", "RD111", at_sites(ahead(np.pi / 2))),
    Fault("half-turn", "RD111", at_sites(ahead(np.pi))),
    Fault("phase", "RD111", at_sites(ahead(0.7))),
    Fault("end-still", "RD112", at_sites(end_of_table(1, 0))),
    Fault("end-still-q", "RD112", at_sites(end_of_table(1, 0), "q")),
    Fault("end-zero", "RD112", at_sites(end_of_table(0, 0))),
    Fault("end-without-sine", "RD112", at_sites(end_of_table(None, 0))),
    Fault("end-without-cosine", "RD112", at_sites(end_of_table(0, None))),
    Fault("other-layer-type", "RD109", at_sites(of_another_layer_type)),
)
