"""Optimisation profiles: for every axis of the inputs the smallest, the usual and the largest size.

A profile is kept by axis (batch, sequence, past, total), not by input, because the inputs of one graph share their
axes: shapes made from axes cannot contradict one another. TensorRT demands that the shapes fit together at each
of the three points, so total = past + sequence holds for min, opt and max alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rope_deploy.artifact import Manifest, TensorInfo

# Default sizes. A profile reserves memory for its largest shapes, so larger ones have to be asked for.
BATCH = (1, 1, 4)
DEFAULT_CONTEXT = 8192  # tokens of context, where max_position allows more
LONGEST_PASS = 2048  # tokens of one pass through a graph with a cache; longer prompts go in chunks
USUAL_PROMPT = 128  # tokens that kernels are tuned for (opt)
USUAL_PAST = 256


@dataclass(frozen=True)
class Range:
    """Sizes of one axis, written MIN:OPT:MAX."""

    min: int
    opt: int
    max: int

    @staticmethod
    def fixed(size: int) -> Range:
        return Range(size, size, size)

    @property
    def ascending(self) -> bool:
        return 0 <= self.min <= self.opt <= self.max

    def up_to(self, largest: int) -> Range:
        return Range(min(self.min, largest), min(self.opt, largest), min(self.max, largest))

    def __add__(self, other: Range) -> Range:
        return Range(self.min + other.min, self.opt + other.opt, self.max + other.max)

    def __sub__(self, other: Range) -> Range:
        return Range(self.min - other.min, self.opt - other.opt, self.max - other.max)

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The sizes of each named axis. `shapes` and `accepts` need every named axis of `inputs`."""

    name: str
    axes: Mapping[str, Range]

    def shapes(self, inputs: Iterable[TensorInfo]) -> dict[str, tuple[Shape, Shape, Shape]]:
        """(min, opt, max) shape of each input."""
        return {i.name: tuple(self._at(i, point) for point in ("min", "opt", "max")) for i in inputs}

    def accepts(self, inputs: Iterable[TensorInfo], shapes: Mapping[str, Shape]) -> bool:
        """Whether tensors of these shapes, by input name, lie within this profile."""
        limits = self.shapes(inputs)
        return all(
            len(shape) == len(limits[name][0])
            and all(low <= size <= high for low, size, high in zip(limits[name][0], shape, limits[name][2]))
            for name, shape in shapes.items()
        )

    def _at(self, tensor: TensorInfo, point: str) -> Shape:
        return tuple(getattr(self.axes[d], point) if isinstance(d, str) else d for d in tensor.shape)


def axis_names(inputs: Iterable[TensorInfo]) -> tuple[str, ...]:
    """The named axes of the inputs, each once, in order of appearance."""
    return tuple(dict.fromkeys(d for i in inputs for d in i.shape if isinstance(d, str)))


def derived_profiles(manifest: Manifest) -> tuple[Profile, ...]:
    """The default profiles: "prefill" and "decode" for a graph with a cache, else "all".

    Both start at an empty past: prefill takes whole prompts and chunks, decode one token at a time.
    """
    names = ("prefill", "decode") if "past" in axis_names(manifest.inputs) else ("all",)
    return tuple(complete_profile(name, {}, manifest) for name in names)


def complete_profile(name: str, given: Mapping[str, Range], manifest: Manifest) -> Profile:
    """A profile with the axes that were given, and for the rest defaults that fit them and max_position.

    The result is inconsistent if what was given is: see `profile_faults`.
    """
    axes = axis_names(manifest.inputs)
    sequence, past, total = (given.get(axis) for axis in ("sequence", "past", "total"))
    context = min(manifest.max_position, DEFAULT_CONTEXT)
    if "past" not in axes:
        sequence = sequence or total or Range(1, min(USUAL_PROMPT, context), context)
        past = Range.fixed(0)
    else:
        usual = _usual_sequence(name, context)
        if sequence is None and past is not None:
            sequence = total - past if total else usual.up_to(max(1, max(context, past.max + 1) - past.max))
        elif sequence is None:
            sequence = usual.up_to(total.max) if total else usual
        if past is None:
            rest = max(0, context - sequence.max)
            past = total - sequence if total else Range(0, min(USUAL_PAST if name == "decode" else 0, rest), rest)
    filled = {
        "batch": Range(*BATCH),
        "sequence": sequence,
        "past": past,
        "total": total or sequence + past,
        **given,
    }
    return Profile(name, {axis: filled[axis] for axis in axes if axis in filled})


def profile_faults(profile: Profile, max_position: int) -> list[str]:
    """What is wrong with a profile of an artifact, one sentence each."""
    found = []
    for axis, size in profile.axes.items():
        least = 0 if axis == "past" else 1
        if not size.ascending or size.min < least:
            found.append(f"profile {profile.name}: {axis}={size} must ascend and start at {least} or more.")
    sequence, total = profile.axes.get("sequence"), profile.axes.get("total")
    past = profile.axes.get("past", Range.fixed(0))
    if sequence and total and total != sequence + past:
        found.append(
            f"profile {profile.name}: total={total} must equal past + sequence = {sequence + past} at min, opt and max."
        )
    longest = total or sequence
    if longest and longest.max > max_position:
        found.append(
            f"profile {profile.name}: {longest.max} tokens (past + sequence) exceed max_position {max_position}."
        )
    return found


def _usual_sequence(name: str, context: int) -> Range:
    """The default sizes of the sequence axis, for a graph with a cache."""
    if name == "decode":
        return Range.fixed(1)
    largest = min(LONGEST_PASS, max(1, context // 2))
    return Range(1, USUAL_PROMPT, largest).up_to(largest)
