"""How a pair is turned: RD101 to RD109."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rope_deploy.errors import UsageError
from tests.mutation.faults.fault import Fault, turned
from tests.mutation.turn import Sound, Turn, half_split, interleaved


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
    Fault("other-layer-type", "RD109", turned(of_another_layer_type)),
)
