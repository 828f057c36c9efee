"""Read one scaling rule from a JSON mapping. Faults are collected, not raised."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rope_deploy.errors import UsageError
from rope_deploy.rope.rules import RULES, Scaling


def rule_named(rope_type: object) -> type[Scaling]:
    """The rule's class; an unknown name raises UsageError and never falls through unscaled."""
    if isinstance(rope_type, str) and rope_type in RULES:
        return RULES[rope_type]
    todo = "Add it as one file in rope_deploy/rope/rules and one line in RULES."
    if rope_type == "axial":
        todo = "Axial positions (rows and columns of an image) have no one-dimensional table."
    raise UsageError(f"The rope type {rope_type!r} is not known.", exists=f"Known are: {', '.join(RULES)}.", todo=todo)


def read_rule(rule: type[Scaling], values: Mapping[str, Any], rotary_dim: int) -> tuple[Scaling | None, list[str]]:
    """The rule built from those of `values` that are its fields, or None and what is wrong, one sentence each."""
    given: dict[str, Any] = {}
    faults: list[str] = []
    for field in dataclasses.fields(rule):
        value = values.get(field.name)
        if value is None:
            if field.default is dataclasses.MISSING:
                faults.append(f"{field.name} is missing; {rule.rope_type} scaling needs it.")
        elif wrong := _wrong_type(str(field.type), value):
            faults.append(f"{field.name} must be {wrong}, not {value!r}.")
        else:
            given[field.name] = tuple(value) if isinstance(value, list | tuple) else value
    if faults:
        return None, faults
    scaling = rule(**given)
    faults = scaling.faults(rotary_dim)
    return (None if faults else scaling), faults


def is_size(value: object) -> bool:
    """Whether `value` is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: object) -> bool:
    """Whether `value` is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _wrong_type(annotation: str, value: object) -> str:
    """What a field of this annotation must be, or nothing where `value` is that."""
    match annotation.removesuffix(" | None"):
        case "float":
            return "" if is_number(value) else "a finite number"
        case "int":  # some configurations write 4096.0
            return "" if is_number(value) and value == int(value) else "a whole number"  # type: ignore[call-overload]
        case "bool":
            return "" if isinstance(value, bool) else "true or false"
        case "tuple[float, ...]":
            listed = isinstance(value, list | tuple) and all(map(is_number, value))
            return "" if listed else "a list of finite numbers"
        case other:
            raise AssertionError(f"a rule has a field of type {other}, which JSON cannot fill")
