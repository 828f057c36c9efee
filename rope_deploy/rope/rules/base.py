"""The base class of scaling rules: keys, frequencies, attention scaling."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.fp32_power import power


class RuleInput(Protocol):
    """What a rule reads of a rotation: its width, its base, and the width that its exponents are fractions of."""

    @property
    def rotary_dim(self) -> int: ...

    @property
    def rope_theta(self) -> float: ...

    @property
    def exponent_dim(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Scaling(ABC):
    """One rule. Subclasses are frozen dataclasses whose fields are the keys of `rope_parameters`, written alike.

    A field without a default is a key that must be present; `None` as default means "absent".
    """

    rope_type: ClassVar[str]
    depends_on_length: ClassVar[bool] = False

    @abstractmethod
    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Radians per position of each pair: [rotary_dim/2]. fp32 repeats PyTorch's roundings, fp64 the formula."""

    @property
    def attention_scaling(self) -> float:
        """Factor on cos and sin alike; where it depends on the length, that of short calls."""
        return 1.0

    def attention_scaling_at(self, seq_len: int | None) -> float:
        """The same in a call of `seq_len` tokens, past included."""
        return self.attention_scaling

    @property
    def threshold(self) -> int | None:
        """Longest sequence, in tokens, that leaves a length-dependent rule in its original state."""
        return None

    @classmethod
    def complete(cls, values: Mapping[str, Any], max_position: int) -> dict[str, Any]:
        """The keys a configuration may leave out because they follow from its maximum position."""
        return dict(values)

    def faults(self, rotary_dim: int) -> list[str]:
        """What is wrong with values of the right type, one sentence each."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; absent keys are left out."""
        values = {"rope_type": self.rope_type}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return values


def ramp(width: int, dtype: DTypeLike) -> NDArray[Any]:
    """0, 2, 4, … below `width`."""
    return np.arange(0, width, 2).astype(dtype)


def wavelengths(spec: RuleInput, dtype: DTypeLike, theta: float | None = None) -> NDArray[Any]:
    """theta ** (2i / width), the wavelength of each pair over 2π: [rotary_dim/2]; `width` is `exponent_width`."""
    exponents = ramp(exponent_width(spec), dtype) / exponent_width(spec)
    return power(spec.rope_theta if theta is None else theta, exponents)


def exponent_width(spec: RuleInput) -> int:
    """The width whose fractions the exponents are: rotary_dim, or the odd one that it was rounded up from."""
    return spec.exponent_dim or spec.rotary_dim


def positive(scaling: Scaling, *names: str) -> list[str]:
    """Faults of fields that must be finite and above zero (absent ones are fine)."""
    pairs = [(name, getattr(scaling, name)) for name in names]
    return [
        f"{name} must be a finite number above 0, not {value}."
        for name, value in pairs
        if value is not None and not (math.isfinite(value) and value > 0)
    ]


def implied_factor(max_position: int, original: object) -> float | None:
    """The ratio of the two context lengths, or None where `original` (not yet validated) allows none."""
    usable = isinstance(original, int | float) and original > 0
    return max_position / original if usable else None
