"""Render SARIF 2.1.0 (OASIS) for code scanning pages, as of GitHub: a result for each diagnosis, a rule for each code.

The logical locations of a result are layers, and a node or table of the graph, since a graph has no lines. Notes with a
code, such as hazards, are results of level "note". What failed without a diagnosis (a check, an engine, a gate, a text)
is a result too, under a rule named by its kind, so that no failed run has an empty document.

Plain dictionaries suffice: sarif-om, the classes on PyPI, is of 2019 and does not validate. The tests do.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from rope_deploy import __version__
from rope_deploy.report.summary import problems
from rope_deploy.results import wording
from rope_deploy.results.code_pages import page_of
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import DiagnosisRecord, Report

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
DOCUMENT = "docs/diagnostics.md"
KINDS = {
    "check": "A check failed",
    "engine": "An engine was not built",
    "gate": "A gate was missed",
    "text": "A generated text differs",
}
_NOTE = re.compile(r"^(RD\d{3}): (.+)$", re.DOTALL)


def to_sarif(report: Report) -> str:
    results = [*_diagnosed(report), *_undiagnosed(report), *_notes(report)]
    codes = sorted({result["ruleId"] for result in results})
    titles = {wording.line(one.code): wording.line(one.title) for one in report.diagnoses}
    for result in results:
        result["ruleIndex"] = codes.index(result["ruleId"])
    run = {
        "tool": {
            "driver": {
                "name": "rope-deploy",
                "semanticVersion": __version__,
                "rules": [_rule(code, titles.get(code, "")) for code in codes],
            }
        },
        "automationDetails": {"id": f"rope-deploy/{wording.line(report.title)}"},
        "invocations": [{"executionSuccessful": True, "startTimeUtc": _moment(report.created)}],
        "results": results,
        "columnKind": "unicodeCodePoints",
        "properties": {"kind": report.kind, "verdict": report.verdict, "source": wording.line(report.source)},
    }
    if not run["invocations"][0]["startTimeUtc"]:
        del run["invocations"][0]["startTimeUtc"]
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace").decode("utf-8")


def _diagnosed(report: Report) -> Iterator[dict[str, Any]]:
    for one in report.diagnoses:
        message = f"{wording.clean(one.explanation)} Where: {wording.line(one.where)}."
        yield _result(report, one.code, "error", message, one.style, _locations(one))


def _undiagnosed(report: Report) -> Iterator[dict[str, Any]]:
    """A result for what failed, unless a diagnosis of the same style (without one, of the same runtime) says why."""
    explained = {wording.target(one.style, one.runtime) for one in report.diagnoses}
    for problem in problems(report):
        if problem.kind in KINDS and problem.where.split(" · ")[0] not in {e.split(" · ")[0] for e in explained}:
            message = f"{problem.where}: {problem.message}"
            yield _result(report, problem.kind, "error", message, problem.where, [(problem.where, "resource")])


def _notes(report: Report) -> Iterator[dict[str, Any]]:
    for note in report.notes:
        if (found := _NOTE.match(note)) and found[1] in CODES:
            yield _result(report, found[1], "note", wording.clean(found[2]), "", [])


def _locations(one: DiagnosisRecord) -> list[tuple[str, str]]:
    """(name, kind) of the table or node and of each layer."""
    locations = [(wording.line(one.where), "resource")] if one.where else []
    return locations + [(f"layer {layer}", "module") for layer in one.layers]


def _result(
    report: Report, code: str, level: str, message: str, style: str, locations: list[tuple[str, str]]
) -> dict[str, Any]:
    file, code, message = _file(report), wording.line(code), message.strip() or code
    logical = [
        {"name": name, "kind": kind, "fullyQualifiedName": f"{wording.line(style) or file}/{name}"}
        for name, kind in locations
    ]
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": file}}}
    if logical:
        location["logicalLocations"] = logical
    identity = hashlib.sha256("|".join([code, file, *(name for name, _ in locations)]).encode("utf-8", "replace"))
    return {
        "ruleId": code,
        "level": level,
        "message": {"text": message},
        "locations": [location],
        "partialFingerprints": {"ropeDeploy/v1": identity.hexdigest()[:32]},
    }


def _file(report: Report) -> str:
    """The source of the report as a relative URI reference; a leading slash and ".." are left out."""
    path = PurePath(wording.line(report.source) or "report").as_posix()
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return quote("/".join(parts) or "report")


def _rule(code: str, title: str) -> dict[str, Any]:
    if code not in CODES:
        return {"id": code, "name": code.capitalize(), "shortDescription": {"text": KINDS.get(code) or title or code}}
    page = page_of(code)
    anchor = f"{DOCUMENT}#{code.lower()}"
    return {
        "id": code,
        "name": code,
        "shortDescription": {"text": page.title},
        "fullDescription": {"text": _plain(page.what)},
        "help": {
            "text": f"{_plain(page.what)}\n\n{_plain(page.fix)}\n\nSee {anchor}.",
            "markdown": f"{page.what}\n\n**Why it happens.** {page.why}\n\n**Fix.** {page.fix}\n\n"
            f"[{anchor}]({anchor}), `rope-deploy check --explain {code}`",
        },
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["rope", "onnx"], "documentation": anchor},
    }


def _plain(markdown: str) -> str:
    return markdown.replace("`", "").replace("**", "").strip()


def _moment(created: str) -> str:
    """An ISO 8601 time in UTC, as SARIF writes it; "" for anything else."""
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        return ""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
