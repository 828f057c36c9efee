"""Parse the texts of `--profile` into profiles, and report every fault at once.

    NAME=MIN:OPT:MAX            NAME is an axis: batch=1:1:8
                                or an input, with shapes: input_ids=1x1:1x128:4x512
    NAME=SIZE                   one size only: sequence=1
    NAME@PROFILE=MIN:OPT:MAX    belongs to the profile of that name: total@decode=1:512:16384

An option with a profile's name changes that profile ("prefill" and "decode" exist by default) or adds one. Options
without a name together describe one profile, "all", which replaces the default ones. Axes that nobody
names get defaults that fit the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rope_deploy.artifact import Manifest, TensorInfo
from rope_deploy.errors import ConfigError
from rope_deploy.trt.profiles import Profile, Range, axis_names, complete_profile, derived_profiles, profile_faults

SYNTAX = "NAME[@PROFILE]=MIN:OPT:MAX, e.g. batch=1:1:8, total@decode=1:512:4096 or input_ids=1x1:1x128:4x512"
_SHAPE = re.compile(r"\d+(x\d+)*")
_UNNAMED = "all"


def requested_profiles(
    texts: Sequence[str], inputs: Sequence[TensorInfo], manifest: Manifest | None
) -> tuple[Profile, ...]:
    """The profiles to build: derived from the manifest, changed by `texts`.

    Without a manifest nothing can be derived, and every dynamic axis must be given.

    Raises:
        ConfigError: with a sentence for each option or axis that is wrong or missing.
    """
    groups, faults = _parse(texts, inputs)
    if manifest is None:
        profiles = tuple(Profile(name, axes) for name, axes in (groups or {_UNNAMED: {}}).items())
    else:
        names = [] if _UNNAMED in groups else [profile.name for profile in derived_profiles(manifest)]
        names += [name for name in groups if name not in names]
        profiles = tuple(complete_profile(name, groups.get(name, {}), manifest) for name in names)
    if not faults:  # else an option that was not understood would show up again as an axis without sizes
        faults = [fault for profile in profiles for fault in _open_axes(profile, inputs)]
        faults += [f for p in profiles for f in profile_faults(p, manifest.max_position)] if manifest else []
    if faults:
        raise ConfigError(
            "The optimisation profiles cannot be built:" if texts else "This model needs optimisation profiles:",
            faults,
            exists=f"Inputs: {_listed([*map(_describe, inputs)])}.",
            todo=f"Give --profile {SYNTAX}.",
        )
    return profiles


Groups = dict[str, dict[str, Range]]


def _parse(texts: Sequence[str], inputs: Sequence[TensorInfo]) -> tuple[Groups, list[str]]:
    """The ranges by profile and axis, and a sentence for each fault."""
    groups: Groups = {}
    origins: dict[tuple[str, str], str] = {}
    faults: list[str] = []
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name:
            faults.append(f"{text!r} has no NAME=; expected {SYNTAX}.")
            continue
        target, profile = _split_name(name, inputs)
        if target is None:
            faults.append(f"{text!r}: there is no input or axis {name!r}; axes: {', '.join(axis_names(inputs))}.")
            continue
        try:
            ranges = list(_ranges(target, value))
        except ValueError as error:
            faults.append(f"{text!r}: {error}.")
            continue
        axes = groups.setdefault(profile, {})
        for axis, size in ranges:
            if axes.setdefault(axis, size) != size:
                other = origins[profile, axis]
                faults.append(f"{text!r} makes {axis} {size}, but {other!r} makes it {axes[axis]}.")
            origins.setdefault((profile, axis), text)
    return groups, faults


def _split_name(name: str, inputs: Sequence[TensorInfo]) -> tuple[TensorInfo | str | None, str]:
    """The input or axis meant, and the profile's name. An input may itself have an @ in its name."""
    known: dict[str, TensorInfo | str] = {axis: axis for axis in axis_names(inputs)}
    known.update({tensor.name: tensor for tensor in inputs})
    if name in known:
        return known[name], _UNNAMED
    target, _, profile = name.rpartition("@")
    return known.get(target), profile


def _ranges(target: TensorInfo | str, value: str) -> Iterator[tuple[str, Range]]:
    """The ranges that one option gives to axes; raises ValueError with what is wrong."""
    parts = value.split(":")
    if len(parts) not in (1, 3) or not all(_SHAPE.fullmatch(part) for part in parts):
        raise ValueError(f"{value!r} is not MIN:OPT:MAX, nor one size")
    points = [tuple(map(int, part.split("x"))) for part in (parts * 3 if len(parts) == 1 else parts)]
    dims: tuple[int | str, ...] = (target,) if isinstance(target, str) else target.shape
    if any(len(point) != len(dims) for point in points):
        raise ValueError(f"{_describe(target)} has {len(dims)} dimension(s)")
    sizes_of: dict[str, Range] = {}
    for dim, sizes in zip(dims, zip(*points)):
        size = Range(*sizes)
        if isinstance(dim, int) and size != Range.fixed(dim):
            raise ValueError(f"{_describe(target)} has a fixed dimension {dim}, not {size}")
        if not size.ascending:
            raise ValueError(f"{dim} {size} does not ascend")
        if isinstance(dim, str):
            if sizes_of.setdefault(dim, size) != size:
                raise ValueError(f"{dim} cannot be {sizes_of[dim]} and {size} at once")
            yield dim, size


def _open_axes(profile: Profile, inputs: Sequence[TensorInfo]) -> Iterator[str]:
    """A sentence for each axis that `profile` gives no sizes, with the inputs that have it."""
    for axis in axis_names(inputs):
        if axis not in profile.axes:
            users = [tensor.name for tensor in inputs if axis in tensor.shape]
            yield f"profile {profile.name}: axis {axis} has no sizes; it belongs to {_listed(users)}."


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _describe(target: TensorInfo | str) -> str:
    return target if isinstance(target, str) else f"{target.name} [{', '.join(map(str, target.shape))}]"
