"""Generate the schema of the JSON report, for programs other than rope-deploy.

    python -m rope_deploy.report.json_schema

writes docs/schema/report-VERSION.json anew; a test fails while the file there differs. The schema is derived from the
records, so it cannot contradict them. A released version is never changed: what is added to the records gets the next
number.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from rope_deploy.report.json_format import DERIVED, SCHEMA_VERSION
from rope_deploy.results.records import Report, Verdict

FILE = Path("docs/schema") / f"report-{SCHEMA_VERSION}.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# JSON has no such numbers, and a failed check may have measured one.
NUMBER = {
    "description": "A number; what JSON cannot write as one is written as text.",
    "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}

FILES = {
    "description": "Only on the standard output of `ci --json`: where each format of the report was written.",
    "type": "object",
    "additionalProperties": {"type": "string"},
}


def schema() -> dict[str, Any]:
    """The JSON Schema, draft 2020-12, of what `to_json` writes."""
    made = TypeAdapter(Report).json_schema(mode="serialization", ref_template="#/$defs/{model}")
    definitions = {name: _complete(_plain(one)) for name, one in made.pop("$defs").items()}
    for record, names in DERIVED.items():
        if record in definitions:
            definitions[record]["properties"] |= {name: {"$ref": "#/$defs/Number"} for name in names}
            definitions[record]["required"] += list(names)
    body = _complete(_plain(made))
    version = {"const": SCHEMA_VERSION, "description": "Of this document's form; a reader checks it first."}
    verdict = {"enum": list(get_args(Verdict)), "description": "Failed if anything failed; skipped: nothing judged."}
    return {
        "$schema": DIALECT,
        "$id": f"urn:rope-deploy:schema:report:{SCHEMA_VERSION}",
        "title": "A report of rope-deploy",
        "description": body.get("description", ""),
        "type": "object",
        "properties": {"schema_version": version, "verdict": verdict, **body["properties"], "files": FILES},
        "required": ["schema_version", "verdict", *body["required"]],
        "$defs": {**definitions, "Number": NUMBER},
    }


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _complete(record: dict[str, Any]) -> dict[str, Any]:
    """`record` with all fields required: `to_json` writes every one, also one with a default."""
    return {**record, "required": list(record["properties"])}


def _plain(value: Any) -> Any:
    """`value` without pydantic's own titles and defaults, and with numbers that may be nan."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "number":
        return {"$ref": "#/$defs/Number"}
    kept = {key: one for key, one in value.items() if key not in ("title", "default") or isinstance(one, dict)}
    return {key: _plain(one) for key, one in kept.items()}


def main(arguments: list[str]) -> None:
    target = Path(arguments[0]) if arguments else FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text(), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
