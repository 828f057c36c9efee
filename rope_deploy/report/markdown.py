"""Render Markdown for a job summary or a pull request: verdict, summary table, what failed, the rest folded away.

Everything that comes from outside goes through `text` or `code`, which write each character that could make markup
of Markdown or HTML as an entity: no value can end a table cell, start a link or mention somebody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rope_deploy.report import benchmark_tables
from rope_deploy.report.grouped_mistakes import mistakes
from rope_deploy.report.summary import Row, check_message, headline, problems, rows, text_verdict, workloads
from rope_deploy.results import wording
from rope_deploy.results.records import Report, Verdict

ICONS: dict[Verdict, str] = {"passed": "✅", "failed": "❌", "skipped": "⚪"}
# More failures than this would not be read; the JSON report has them all.
MOST_PROBLEMS = 20
MOST_SYMPTOMS = 5  # failures shown beside a diagnosis, which says more
_SPECIAL = re.compile(
    r"[\\`*_\[\]<>#|~@&$]"  # anywhere
    r"|^[-+=]|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)"  # what makes a list or a rule at the start of a line
    r"|:(?=//)|(?<=www)\.",  # what makes a bare link
    re.IGNORECASE,
)


def to_markdown(report: Report) -> str:
    parts = [
        f"# {ICONS[report.verdict]} {text(report.title)}: {wording.VERDICT_WORDS[report.verdict]}",
        text(headline(report)),
        _mistakes(report),
        _summary(report),
        _problems(report),
        _gates(report),
        _texts(report),
        _details(report),
        f"<sub>{text(report.source)} · {text(report.machine)} · {text(wording.moment(report.created))} · "
        f"{wording.duration(report.seconds)} · {wording.maker(report.kind)}</sub>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def text(value: str) -> str:
    """`value` on one line, without any meaning in Markdown or HTML."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", wording.line(value))


def code(value: str) -> str:
    return f"<code>{text(value)}</code>"


def _summary(report: Report) -> str:
    timed = workloads(report)
    head = [
        "",
        "Style",
        "Runtime",
        "Checks",
        "Closest to its tolerance",
        "Text",
        *(code(name) for name in timed),
        "Size",
    ]
    return _table(head, [_row(row) for row in rows(report)])


def _row(row: Row) -> list[str]:
    worst = (
        f"{wording.beside(row.worst.error, row.worst.tolerance)} ({wording.percent(wording.share(row.worst))})"
        if row.worst
        else ""
    )
    latencies = [
        f"{wording.milliseconds(r.median_ms)} {f'({wording.ratio(r.ratio)})' if r.ratio is not None else ''}".strip()
        if r
        else ""
        for r in row.latencies
    ]
    return [
        ICONS[row.verdict] if row.judged or row.skipped or row.same_text is not None else "",
        text(row.style),
        text(wording.runtime(row.runtime)),
        f"{row.passed} of {row.judged}" if row.judged else "",
        text(worst),
        {True: "same", False: "**differs**", None: ""}[row.same_text],
        *latencies,
        wording.size(row.bytes) if row.bytes is not None else "",
    ]


def _mistakes(report: Report) -> str:
    found = mistakes(report)
    listed = []
    for mistake in found[:MOST_PROBLEMS]:
        lines = [
            f"- **{text(mistake.code)} {text(mistake.title)}** ({text(mistake.target)})",
            f"**{text(mistake.where)}**" if mistake.where else "",
            text(mistake.explanation),
            text(mistake.fit),
            f"cases {text(mistake.cases)}" if mistake.cases else "",
            code(mistake.command),
        ]
        listed.append("  \n  ".join(line for line in lines if line))
    if len(found) > MOST_PROBLEMS:
        listed.append(f"- and {len(found) - MOST_PROBLEMS} more")
    return "## Diagnosis\n\n" + "\n".join(listed) if listed else ""


def _problems(report: Report) -> str:
    found = problems(report)
    if not found:
        return ""
    most = MOST_SYMPTOMS if report.diagnoses and len(found) > MOST_SYMPTOMS + 1 else MOST_PROBLEMS
    listed = [
        f"- **{p.kind}** {code(p.where)}  \n  " + "  \n  ".join(text(part) for part in p.message.splitlines() if part)
        for p in found[:most]
    ]
    if len(found) > most:
        listed.append(f"- and {len(found) - most} more")
    return "## What failed\n\n" + "\n".join(listed)


def _gates(report: Report) -> str:
    table = _table(
        ["", "Gate", "Measured", "Limit"],
        [[ICONS[g.verdict], code(g.name), text(g.measured), text(g.limit)] for g in report.gates],
    )
    return f"## Gates\n\n{table}" if table else ""


def _texts(report: Report) -> str:
    table = _table(
        ["", "Runtime", "Prompt", "Text"],
        [
            [
                "" if g.agrees is None else ICONS[text_verdict(g)],
                text(wording.target(g.style, g.runtime)),
                code(g.prompt),
                code(g.text),
            ]
            for g in report.generations
        ],
    )
    return f"## Generated text\n\n{table}" if table else ""


def _details(report: Report) -> str:
    checks = _table(
        ["", "Style", "Runtime", "Case", "Found"],
        [
            [ICONS[c.verdict], text(c.style), text(wording.runtime(c.runtime)), code(c.case), text(check_message(c))]
            for c in report.checks
        ],
    )
    exports = _table(
        ["Style", "Opset", "Nodes", "Rotations", "Size", "Time", "Findings"],
        [
            [
                text(e.style),
                str(e.opset),
                wording.number(e.nodes),
                f"{e.sites} in {wording.count(e.rotations, 'table')}",
                wording.size(e.bytes),
                wording.duration(e.seconds),
                "<br>".join(text(f) for f in e.findings),
            ]
            for e in report.exports
        ],
    )
    engines = _table(
        ["", "Flavor", "Style", "Compute capabilities", "Size", "Time", "Message"],
        [
            [
                ICONS[e.verdict],
                text(e.flavor),
                text(e.style),
                text(", ".join(e.capabilities)),
                wording.size(e.bytes),
                wording.duration(e.seconds),
                text(e.message),
            ]
            for e in report.engines
        ],
    )
    latencies = _plain(benchmark_tables.timing_table(report))
    needed = _plain(benchmark_tables.memory_table(report))
    needed = f"{text(benchmark_tables.MEMORY_EXPLANATION)}\n\n{needed}" if needed else ""
    notes = "\n".join(f"- {text(note)}" for note in report.notes)
    versions = _table(["Package", "Version"], [[text(k), text(v)] for k, v in report.versions.items()])
    sections = {
        "Checks": checks,
        "Exports": exports,
        "Engines": engines,
        "Latency": latencies,
        "Memory and contestants": needed,
        "Notes": notes,
        "Versions": versions,
    }
    return "\n\n".join(
        f"<details><summary>{name}</summary>\n\n{body}\n\n</details>" for name, body in sections.items() if body
    )


def _plain(table: benchmark_tables.Table) -> str:
    head, body = table
    return _table(head, [[text(cell) for cell in row] for row in body])


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table without the columns that are empty in every row; "" if there are no rows."""
    body = list(body)
    kept = [i for i in range(len(head)) if any(row[i] for row in body)]
    lines = [[head[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in body)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if body else ""
