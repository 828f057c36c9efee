"""RopeSpec: the full specification of one rotation, and its JSON form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.errors import ConfigError
from rope_deploy.rope.read_rule import is_number, read_rule, rule_named
from rope_deploy.rope.rules import DynamicNTK, Scaling

_KEYS = frozenset(
    {
        "head_dim",
        "rotary_dim",
        "exponent_dim",
        "interleaved",
        "max_position",
        "reversed",
        "mrope_section",
        "mrope_interleaved",
        "mrope_axes",
        "rope_parameters",
    }
)
LARGEST_HEAD = 1 << 16  # elements: no model has such a head, and every table has a column for each pair


@dataclass(frozen=True)
class RopeSpec:
    """One rotation, independent of any model.

    head_dim:      elements of the vector handed to the rotation (of an MLA head: its rotary slice)
    rotary_dim:    how many of them are rotated, a prefix; even. Proportional scaling pairs across the whole head
    interleaved:   pairs are (0, 1), (2, 3), … instead of (0, R/2), (1, R/2 + 1), …
    rope_theta:    the base of the frequencies
    scaling:       the rule, with its own parameters
    max_position:  positions the model was made for, 0 … max_position − 1; a size, the rules do not read it
    reversed:      rotates in the opposite direction: the sine is negated (nanochat)
    mrope_section: pairs given to each axis of a multi-axis position (Qwen2-VL); empty for plain positions
    mrope_interleaved: pairs go to the axes alternately (Qwen3-VL) instead of in one run per axis
    mrope_axes:    the axis of each pair where it follows neither order (Ernie 4.5 VL); else empty
    exponent_dim:  the width whose fractions are the exponents of the base, where that is not rotary_dim: an odd share
                   of the head, which PyTorch's arange(0, width, 2) rounds up to whole pairs; else 0

    Raises ConfigError with every fault.
    """

    head_dim: int
    rotary_dim: int
    interleaved: bool
    rope_theta: float
    scaling: Scaling
    max_position: int
    reversed: bool = False
    mrope_section: tuple[int, ...] = ()
    mrope_interleaved: bool = False
    mrope_axes: tuple[int, ...] = ()
    exponent_dim: int = 0

    def __post_init__(self) -> None:
        faults = _size_faults(self.head_dim, self.rotary_dim, self.rope_theta, self.max_position)
        if not faults:
            faults = [*axes_faults(self.mrope_axes, self.mrope_section, self.rotary_dim)]
            faults += exponent_faults(self.exponent_dim, self.rotary_dim)
            faults += self.scaling.faults(self.rotary_dim)
        if faults:
            raise ConfigError("This is no rotation:", faults)

    @property
    def attention_scaling(self) -> float:
        """The factor folded into cos and sin, for calls short enough that the rule does not change them."""
        return self.scaling.attention_scaling

    def attention_scaling_at(self, seq_len: int | None) -> float:
        """The same in a call of `seq_len` tokens, past included."""
        return self.scaling.attention_scaling_at(seq_len)

    @property
    def depends_on_length(self) -> bool:
        """Whether the frequencies change with the length of the sequence, so that one table cannot hold them."""
        return self.scaling.depends_on_length

    @property
    def original_max_position(self) -> int | None:
        """Tokens of context before extension: where a length-dependent rule switches. None if the rule has none."""
        value = self.scaling.threshold
        return getattr(self.scaling, "original_max_position_embeddings", None) if value is None else value

    @property
    def reach(self) -> int:
        """The number of positions the rule is meant for.

        Dynamic NTK states the length the model was trained for, and stretches it by its factor; a table of the
        stated length would end exactly where the rule begins.
        """
        stretch = self.scaling.factor if isinstance(self.scaling, DynamicNTK) else 1.0
        return int(self.max_position * stretch)

    @property
    def positions(self) -> str:
        """ "1-D" or "M-RoPE"."""
        return "M-RoPE" if self.mrope_section else "1-D"

    @property
    def axes(self) -> NDArray[np.int64]:
        """The axis of a position that each pair follows, [rotary_dim/2]; zeros where a position has one.

        Sections are runs of pairs, axis after axis. Interleaved, every third pair (of three axes) belongs to the
        second, every third after it to the third, as far as their sections reach; the first axis has all others,
        also the pairs that sections leave over. Sections beyond the width have no effect. `mrope_axes` overrides all
        this.
        """
        if self.mrope_axes:
            return np.array(self.mrope_axes, np.int64)
        axes = np.zeros(self.rotary_dim // 2, np.int64)
        count = len(self.mrope_section)
        for axis, size in enumerate(self.mrope_section):
            if self.mrope_interleaved:
                axes[axis : size * count : count] = axis
            else:
                axes[sum(self.mrope_section[:axis]) :][:size] = axis
        return axes

    def inv_freq(self, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Radians per position of each pair, [rotary_dim/2].

        `seq_len` counts tokens, past included, and matters only where `depends_on_length`. fp32 repeats
        transformers' arithmetic on this machine's CPU; fp64 evaluates the same formula in fp64.
        """
        return self.scaling.inv_freq(self, seq_len, dtype)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `rope_parameters` is written as Hugging Face writes it."""
        rule = self.scaling.to_dict()
        return {
            "head_dim": self.head_dim,
            "rotary_dim": self.rotary_dim,
            "interleaved": self.interleaved,
            "max_position": self.max_position,
            **({"exponent_dim": self.exponent_dim} if self.exponent_dim else {}),
            **({"reversed": True} if self.reversed else {}),
            **({"mrope_section": list(self.mrope_section)} if self.mrope_section else {}),
            **({"mrope_interleaved": True} if self.mrope_interleaved else {}),
            **({"mrope_axes": list(self.mrope_axes)} if self.mrope_axes else {}),
            "rope_parameters": {"rope_type": rule.pop("rope_type"), "rope_theta": self.rope_theta, **rule},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RopeSpec:
        """The inverse of `to_dict`. Raises ConfigError with all faults, UsageError for an unknown rope type."""
        faults = [f"{key} is not a key of a rotation." for key in sorted(set(values) - _KEYS)]
        parameters = values.get("rope_parameters")
        if not isinstance(parameters, Mapping):
            raise ConfigError("This is no rotation:", [*faults, "rope_parameters is missing or no mapping."])
        rule = rule_named(parameters.get("rope_type"))
        known = {*rule.__dataclass_fields__, "rope_type", "rope_theta"}
        faults += [f"{key} is not a key of {rule.rope_type} scaling." for key in sorted(set(parameters) - known)]

        sizes = values.get("head_dim"), values.get("rotary_dim"), parameters.get("rope_theta")
        faults += _size_faults(*sizes, values.get("max_position"))
        for key in ("interleaved", "reversed", "mrope_interleaved"):
            if not isinstance(values.get(key, False), bool):
                faults.append(f"{key} must be true or false, not {values[key]!r}.")
        faults += section_faults(values.get("mrope_section", []))
        faults += section_faults(values.get("mrope_axes", []), "mrope_axes")
        exponent_dim = values.get("exponent_dim", 0)
        if not _is_count(exponent_dim):
            faults.append(f"exponent_dim must be a whole number, not {exponent_dim!r}.")
        rotary_dim = sizes[1] if isinstance(sizes[1], int) else 0
        scaling, rule_faults = read_rule(rule, parameters, rotary_dim)
        faults += rule_faults
        if faults or scaling is None:
            raise ConfigError("This is no rotation:", faults)
        return cls(
            head_dim=values["head_dim"],
            rotary_dim=values["rotary_dim"],
            interleaved=values.get("interleaved", False),
            rope_theta=parameters["rope_theta"],
            scaling=scaling,
            max_position=values["max_position"],
            reversed=values.get("reversed", False),
            mrope_section=tuple(values.get("mrope_section", ())),
            mrope_interleaved=values.get("mrope_interleaved", False),
            mrope_axes=tuple(values.get("mrope_axes", ())),
            exponent_dim=exponent_dim,
        )


def section_faults(section: object, name: str = "mrope_section") -> list[str]:
    """What is wrong with a list of counts."""
    listed = isinstance(section, list | tuple) and all(_is_count(size) and size <= LARGEST_HEAD for size in section)
    return [] if listed else [f"{name} must be a list of counts of at most {LARGEST_HEAD}, not {section!r}."]


def fill_faults(section: Sequence[int], rotary_dim: int) -> Iterator[str]:
    """What is wrong with consecutive sections that do not add up to the number of rotated pairs.

    Modeling code splits the pairs by these sections and fails if they do not fit.
    """
    pairs, stated = rotary_dim // 2, sum(section)
    if stated != pairs:
        yield f"mrope_section must add up to the {pairs} pairs that are rotated; {list(section)} makes {stated}."


def exponent_faults(exponent_dim: int, rotary_dim: int) -> list[str]:
    """What is wrong with an `exponent_dim` of a rotation that is otherwise sound."""
    fits = exponent_dim in (0, rotary_dim - 1)
    return [] if fits else [f"exponent_dim must be {rotary_dim - 1} if it is not {rotary_dim}, not {exponent_dim}."]


def axes_faults(axes: Sequence[int], section: Sequence[int], rotary_dim: int) -> Iterator[str]:
    """What is wrong with an `mrope_axes` of a rotation that is otherwise sound."""
    if axes and len(axes) != rotary_dim // 2:
        yield f"mrope_axes must name the axis of each of {rotary_dim // 2} pairs; it has {len(axes)}."
    if axes and max(axes) >= len(section):
        yield f"mrope_axes names axis {max(axes)}; positions have {len(section)}, by mrope_section."


def _size_faults(head_dim: object, rotary_dim: object, rope_theta: object, max_position: object) -> list[str]:
    faults = [
        f"{name} must be a whole number above 0, not {value!r}."
        for name, value in (("head_dim", head_dim), ("rotary_dim", rotary_dim), ("max_position", max_position))
        if not _is_count(value) or value == 0
    ]
    if not faults and head_dim > LARGEST_HEAD:  # type: ignore[operator]
        faults.append(f"head_dim must be at most {LARGEST_HEAD}, not {head_dim}.")
    if not (is_number(rope_theta) and rope_theta > 1):  # type: ignore[operator]
        faults.append(f"rope_theta must be a finite number above 1, not {rope_theta!r}.")
    if not faults and rotary_dim > head_dim:  # type: ignore[operator]
        faults.append(f"rotary_dim {rotary_dim} is wider than the head, {head_dim}.")
    if not faults and rotary_dim % 2:  # type: ignore[operator]
        faults.append(f"rotary_dim must be even, since pairs are rotated; it is {rotary_dim}.")
    return faults


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
