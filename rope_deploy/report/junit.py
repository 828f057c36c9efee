"""Render JUnit XML for GitHub, GitLab and Jenkins: one suite per style and runtime, one case per check.

A page of results shows the first line of a failure, so that line is the diagnosis where there is one; the figures
follow. Each diagnosis is a case of its own as well, before the checks that showed it. Engines, generated texts,
gates and contestants that were left out of a benchmark are suites of their own, so that every verdict is a case.

The standard library writes the few elements; junitparser would be a dependency for these alone.
"""

from __future__ import annotations

import datetime
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rope_deploy.report.summary import check_message, difference, text_verdict
from rope_deploy.results import wording
from rope_deploy.results.records import CheckRecord, DiagnosisRecord, Report, Verdict


@dataclass(frozen=True)
class Case:
    """One testcase. `message` says why it failed or was skipped; its first line is what pages of results show."""

    name: str
    verdict: Verdict
    message: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Suite:
    name: str
    cases: list[Case]
    properties: Mapping[str, str] = field(default_factory=dict)


def to_junit(report: Report) -> str:
    root = ET.Element("testsuites")
    timestamp = _timestamp(report.created)
    common = {"source": report.source, "machine": report.machine, **report.versions}
    total: list[Case] = []
    for suite in _suites(report):
        root.append(_suite(suite, common, timestamp))
        total += suite.cases
    for key, value in {"name": wording.line(report.title), **_counts(total), "time": _time(report.seconds)}.items():
        root.set(key, value)
    ET.indent(root)
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {wording.maker(report.kind)} -->\n'
    return head + ET.tostring(root, encoding="unicode") + "\n"


def _suites(report: Report) -> Iterator[Suite]:
    for style, runtime in dict.fromkeys((r.style, r.runtime) for r in (*report.diagnoses, *report.checks)):
        found = [d for d in report.diagnoses if (d.style, d.runtime) == (style, runtime)]
        checks = [c for c in report.checks if (c.style, c.runtime) == (style, runtime)]
        cases = [Case(_sentence(d), "failed", _diagnosed(d)) for d in found]
        cases += [Case(_titled(c), c.verdict, _explained(c, found), c.seconds) for c in checks]
        name = ".".join(filter(None, (wording.line(style), wording.line(runtime)))) or "report"
        yield Suite(name, cases, _facts(report, style, runtime))
    others = {
        "engines": [
            Case(f"{e.flavor} {e.style} {' '.join(e.capabilities)}", e.verdict, e.message, e.seconds)
            for e in report.engines
        ],
        "texts": [
            Case(f"{wording.target(g.style, g.runtime)}: {g.prompt}", text_verdict(g), difference(report, g))
            for g in report.generations
            if g.agrees is not None
        ],
        "gates": [Case(g.name, g.verdict, f"measured {g.measured}, limit {g.limit}") for g in report.gates],
        "benchmark": [
            Case(wording.target(c.style, c.runtime), c.verdict, c.message)
            for c in report.contestants
            if c.verdict != "passed"
        ],
    }
    yield from (Suite(name, cases) for name, cases in others.items() if cases)


def _sentence(diagnosis: DiagnosisRecord) -> str:
    return f"{diagnosis.code} {diagnosis.title}" + (f": {diagnosis.where}" if diagnosis.where else "")


def _diagnosed(diagnosis: DiagnosisRecord) -> str:
    seen = f"It shows in: {', '.join(diagnosis.cases)}." if diagnosis.cases else ""
    lines = (_first(diagnosis), seen, f"More: rope-deploy check --explain {diagnosis.code}")
    return "\n".join(filter(None, lines))


def _first(diagnosis: DiagnosisRecord) -> str:
    """The diagnosis on one line, with its explanation."""
    return wording.line(f"{_sentence(diagnosis)}. {diagnosis.explanation}".strip())


def _explained(check: CheckRecord, found: Iterable[DiagnosisRecord]) -> str:
    """The diagnoses that show in this case, then what the check measured."""
    if check.verdict != "failed":
        return check_message(check)
    return "\n".join([*(_first(d) for d in found if check.case in d.cases), check_message(check)])


def _facts(report: Report, style: str, runtime: str) -> dict[str, str]:
    """Properties of a suite: the style's export and its timings in this runtime."""
    facts = {"style": style, "runtime": runtime}
    for export in (e for e in report.exports if e.style == style):
        facts |= {"opset": str(export.opset), "nodes": str(export.nodes), "bytes": str(export.bytes)}
    for record in (r for r in report.latencies if (r.style, r.runtime) == (style, runtime)):
        ratio = f", {wording.ratio(record.ratio)}" if record.ratio is not None else ""
        facts[record.workload] = f"{wording.milliseconds(record.median_ms)}{ratio}"
    return {name: value for name, value in facts.items() if value}


def _suite(made: Suite, common: Mapping[str, str], timestamp: str) -> ET.Element:
    time = _time(sum(case.seconds for case in made.cases))
    suite = ET.Element("testsuite", name=made.name, **_counts(made.cases), time=time)
    if timestamp:
        suite.set("timestamp", timestamp)
    properties = ET.SubElement(suite, "properties")
    for key, value in {**common, **made.properties}.items():
        ET.SubElement(properties, "property", name=wording.line(key), value=wording.line(value))
    for case in made.cases:
        node = ET.SubElement(
            suite,
            "testcase",
            classname=f"rope_deploy.{made.name}",
            name=wording.line(case.name),
            time=_time(case.seconds),
        )
        message = wording.clean(case.message).strip() or "no reason was recorded"
        first = wording.line(message.splitlines()[0])
        if case.verdict == "failed":
            ET.SubElement(node, "failure", message=first, type="failed").text = message
        elif case.verdict == "skipped":
            ET.SubElement(node, "skipped", message=first).text = message
    return suite


def _counts(cases: list[Case]) -> dict[str, str]:
    verdicts = [case.verdict for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(verdicts.count("failed")),
        "errors": "0",
        "skipped": str(verdicts.count("skipped")),
    }


def _titled(check: CheckRecord) -> str:
    return f"{check.case} ({check.detail})" if check.detail else check.case


def _time(seconds: float) -> str:
    return f"{seconds:.3f}" if 0 <= seconds < float("inf") else "0.000"


def _timestamp(created: str) -> str:
    """ISO 8601 without a zone, as the JUnit schema wants it; "" if the record holds something else."""
    try:
        return datetime.datetime.fromisoformat(created).replace(tzinfo=None, microsecond=0).isoformat()
    except ValueError:
        return ""
