"""How a pair is turned: RD101 to RD109, RD111 and RD112."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from faults.mistakes.fault import Edit, Fault, turned
from faults.plant_rotation import Sound, Turn, half_split, interleaved
from rope_deploy.errors import UsageError


def swapped_layout(sound: Sound) -> Turn:
    other = half_split if sound.spec.interleaved else interleaved
    return replace(sound.turn, pairs=other(sound.spec.rotary_dim))


def negated_sine(sound: Sound) -> Turn:
    return sound.turn.cast(sound.turn.cos, -sound.turn.sin)


def full_width(sound: Sound) -> Turn | None:
    return _as_wide(sound, sound.spec.head_dim)


def half_width(sound: Sound) -> Turn | None:
    return _as_wide(sound, sound.spec.rotary_dim // 2)


def _as_wide(sound: Sound, rotary_dim: int) -> Turn | None:
    """The rule followed for another rotary_dim, where it can be."""
    if rotary_dim == sound.spec.rotary_dim or rotary_dim < 4 or sound.spec.scaling.rope_type == "proportional":
        return None
    try:
        spec = replace(sound.spec, rotary_dim=rotary_dim)
    except UsageError:
        return None
    pairs = (interleaved if spec.interleaved else half_split)(rotary_dim)
    return replace(sound.by_rule(spec), pairs=pairs)


def other_end(sound: Sound) -> Turn | None:
    rest = sound.spec.head_dim - sound.spec.rotary_dim
    return replace(sound.turn, pairs=sound.turn.pairs + rest) if rest else None


def prefix_across(sound: Sound) -> Turn | None:
    """A partial rotation that pairs i with i + H/2."""
    width, head_dim = sound.spec.rotary_dim, sound.spec.head_dim
    if width == head_dim or sound.spec.interleaved:
        return None
    first = np.arange(width // 2)
    return replace(sound.turn, pairs=np.stack([first, first + head_dim // 2], axis=1))


def across_prefix(sound: Sound) -> Turn | None:
    """A proportional rotation that pairs within the prefix that turns."""
    if sound.spec.scaling.rope_type != "proportional":
        return None
    turning = int(np.count_nonzero(sound.spec.inv_freq()))
    cut = sound.turn.cast(sound.turn.cos[:, :turning], sound.turn.sin[:, :turning])
    return replace(cut, pairs=half_split(2 * turning))


def missing(sound: Sound) -> Turn:
    return replace(sound.turn, times=0)


def doubled(sound: Sound) -> Turn:
    return replace(sound.turn, times=2)


def exchanged(sound: Sound) -> Turn:
    return sound.turn.cast(sound.turn.sin, sound.turn.cos)


def ahead(phase: float) -> Edit:
    """Every pair is turned by `phase` radians more."""

    def edit(sound: Sound) -> Turn:
        z = (sound.turn.cos.astype(np.float64) + 1j * sound.turn.sin.astype(np.float64)) * np.exp(1j * phase)
        return sound.turn.cast(z.real, z.imag)

    return edit


def end_of_table(cos: float | None, sin: float | None) -> Edit:
    """The last quarter of the columns that turn, and those behind, hold these numbers (None: what they should)."""

    def edit(sound: Sound) -> Turn | None:
        turning = np.count_nonzero(sound.spec.inv_freq())
        if turning < 2:
            return None
        first = turning - max(1, turning // 4)
        made = [sound.turn.cos.copy(), sound.turn.sin.copy()]
        for table, number in zip(made, (cos, sin), strict=True):
            if number is not None:
                table[:-1, first:] = number  # the row behind the last position stays no number
        return sound.turn.cast(*made)

    return edit


def of_another_layer_type(sound: Sound) -> Turn | None:
    for rotation in sound.graph.manifest.rotations:
        if rotation.name != sound.rotation.name and rotation.spec:
            other = Sound(sound.graph, sound.site, rotation).turn
            return sound.turn.cast(other.cos, other.sin) if other.cos.shape == sound.turn.cos.shape else None
    return None


LAYOUT = (
    Fault("layout-swapped", "RD101", turned(swapped_layout)),
    Fault("layout-swapped-k", "RD101", turned(swapped_layout, "k")),
    Fault("sine-negated", "RD102", turned(negated_sine)),
    Fault("sine-negated-q", "RD102", turned(negated_sine, "q")),
    Fault("rotary-dim-full", "RD103", turned(full_width)),
    Fault("rotary-dim-half", "RD103", turned(half_width)),
    Fault("other-end", "RD104", turned(other_end)),
    Fault("prefix-across", "RD105", turned(prefix_across)),
    Fault("across-prefix", "RD105", turned(across_prefix)),
    Fault("missing", "RD106", turned(missing)),
    Fault("doubled", "RD107", turned(doubled)),
    Fault("doubled-k", "RD107", turned(doubled, "k")),
    Fault("only-k", "RD108", turned(missing, "q")),
    Fault("only-q", "RD108", turned(missing, "k")),
    Fault("exchanged", "RD111", turned(exchanged)),
    Fault("exchanged-k", "RD111", turned(exchanged, "k")),
    Fault("quarter-turn", "RD111", turned(ahead(np.pi / 2))),
    Fault("half-turn", "RD111", turned(ahead(np.pi))),
    Fault("phase", "RD111", turned(ahead(0.7))),
    Fault("end-still", "RD112", turned(end_of_table(1, 0))),
    Fault("end-still-q", "RD112", turned(end_of_table(1, 0), "q")),
    Fault("end-zero", "RD112", turned(end_of_table(0, 0))),
    Fault("end-without-sine", "RD112", turned(end_of_table(None, 0))),
    Fault("end-without-cosine", "RD112", turned(end_of_table(0, None))),
    Fault("other-layer-type", "RD109", turned(of_another_layer_type)),
)
