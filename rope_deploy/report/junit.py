"""JUnit XML, as GitHub, GitLab and Jenkins read it: one suite per style and runtime, one case per check.

Engines, generated texts and gates are suites of their own, so that every verdict of a run is a test case.
"""

from __future__ import annotations

import datetime
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from rope_deploy.report import words
from rope_deploy.report.records import Report, Verdict
from rope_deploy.report.summary import check_message, difference, text_verdict


@dataclass(frozen=True)
class Case:
    name: str
    verdict: Verdict
    message: str
    seconds: float = 0.0


def to_junit(report: Report) -> str:
    root = ET.Element("testsuites")
    timestamp = _timestamp(report.created)
    total: list[Case] = []
    for name, cases in _suites(report):
        root.append(_suite(name, cases, report, timestamp))
        total += cases
    for key, value in {"name": words.line(report.title), **_counts(total), "time": _time(report.seconds)}.items():
        root.set(key, value)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suites(report: Report) -> Iterable[tuple[str, list[Case]]]:
    keys = dict.fromkeys((c.style, c.runtime) for c in report.checks)
    for style, runtime in keys:
        yield (
            f"{words.line(style)}.{words.line(runtime)}",
            [
                Case(_titled(c.case, c.detail), c.verdict, check_message(c), c.seconds)
                for c in report.checks
                if (c.style, c.runtime) == (style, runtime)
            ],
        )
    engines = [
        Case(f"{e.flavor} {e.style} {' '.join(e.capabilities)}", e.verdict, e.message, e.seconds)
        for e in report.engines
    ]
    texts = [
        Case(f"{words.target(g.style, g.runtime)}: {g.prompt}", text_verdict(g), difference(report, g))
        for g in report.generations
        if g.agrees is not None
    ]
    gates = [Case(g.name, g.verdict, f"measured {g.measured}, limit {g.limit}") for g in report.gates]
    yield from ((name, cases) for name, cases in (("engines", engines), ("texts", texts), ("gates", gates)) if cases)


def _suite(name: str, cases: list[Case], report: Report, timestamp: str) -> ET.Element:
    time = _time(sum(case.seconds for case in cases))
    suite = ET.Element("testsuite", name=name, **_counts(cases), time=time)
    if timestamp:
        suite.set("timestamp", timestamp)
    properties = ET.SubElement(suite, "properties")
    for key, value in {"source": report.source, "machine": report.machine, **report.versions}.items():
        ET.SubElement(properties, "property", name=words.line(key), value=words.line(value))
    for case in cases:
        node = ET.SubElement(
            suite,
            "testcase",
            classname=f"rope_deploy.{name}",
            name=words.line(case.name),
            time=_time(case.seconds),
        )
        message = words.clean(case.message).strip() or "no reason was recorded"
        if case.verdict == "failed":
            failure = ET.SubElement(node, "failure", message=words.line(message), type="failed")
            failure.text = message
        elif case.verdict == "skipped":
            ET.SubElement(node, "skipped", message=words.line(message))
    return suite


def _counts(cases: list[Case]) -> dict[str, str]:
    verdicts = [case.verdict for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(verdicts.count("failed")),
        "errors": "0",
        "skipped": str(verdicts.count("skipped")),
    }


def _titled(case: str, detail: str) -> str:
    return f"{case} ({detail})" if detail else case


def _time(seconds: float) -> str:
    return f"{seconds:.3f}" if 0 <= seconds < float("inf") else "0.000"


def _timestamp(created: str) -> str:
    """ISO 8601 without a zone, as the JUnit schema wants it; "" if the record holds something else."""
    try:
        return datetime.datetime.fromisoformat(created).replace(tzinfo=None, microsecond=0).isoformat()
    except ValueError:
        return ""
