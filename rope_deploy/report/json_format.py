"""Write a report as one JSON document, and read it back. Keys are those of the records; `schema_version` guards them.

docs/schema/ publishes the schema (see json_schema.py). JSON has no nan or infinity, and a failed check may have
measured one: they are written as strings.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rope_deploy.errors import ConfigError
from rope_deploy.results.records import Report
from rope_deploy.safe_reading import parse_json

SCHEMA_VERSION = 3

# What records compute from their fields is written too, for readers that are no Python program.
DERIVED = {"LatencyRecord": ("tokens_per_second",)}

_REPORT = TypeAdapter(Report)


def to_json(report: Report) -> str:
    """The document, encodable as UTF-8 and ending in a newline. Its verdict is for readers; `from_json` ignores it."""
    document = {"schema_version": SCHEMA_VERSION, "verdict": report.verdict, **asdict(report)}
    for written, record in zip(document["latencies"], report.latencies, strict=True):
        written |= {name: getattr(record, name) for name in DERIVED[type(record).__name__]}
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str | bytes, *, name: str = "the report") -> Report:
    """The report that `to_json` wrote. Raises ConfigError, with every fault, for anything else."""
    again = "Make the report again with `rope-deploy check` or `rope-deploy bench`."
    try:
        document = parse_json(text.encode() if isinstance(text, str) else text)
    except ValueError as error:
        raise ConfigError(f"{name} is not valid JSON: {error}.", todo=again) from None
    if not isinstance(document, dict) or "schema_version" not in document:
        raise ConfigError(f"{name} is not a report of rope-deploy: it has no schema_version.", todo=again)
    if document["schema_version"] != SCHEMA_VERSION:
        raise ConfigError(
            f"{name} has schema version {document['schema_version']!r}.",
            exists=f"This rope-deploy reads version {SCHEMA_VERSION}.",
            todo=again,
        )
    try:
        return _REPORT.validate_python({k: v for k, v in document.items() if k not in ("schema_version", "verdict")})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{name} is not a valid report:", faults, todo=again) from None


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: tuples as lists, nan and infinity as strings, lone surrogates as "?"."""
    match value:
        case dict():
            return {_plain(k): _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case str():
            # A lone surrogate cannot be encoded; it comes from a file name or a half-decoded token.
            return value.encode("utf-8", "replace").decode("utf-8")
    return value
