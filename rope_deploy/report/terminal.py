"""Render a report for a terminal: verdict first, a table, what failed. Plain text where there is no terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rope_deploy.report import benchmark_tables
from rope_deploy.report.grouped_mistakes import mistakes
from rope_deploy.report.summary import MOST_WORKLOADS, Row, headline, problems, rows, text_verdict, workloads
from rope_deploy.results import wording
from rope_deploy.results.records import Report, Verdict

STYLES: dict[Verdict, str] = {"passed": "bold green", "failed": "bold red", "skipped": "bold yellow"}
MARKS: dict[Verdict, str] = {"passed": "✓", "failed": "✗", "skipped": "–"}
# The report files hold all of them. Beside a diagnosis failed checks are only its symptoms.
MOST_PROBLEMS = 10
MOST_SYMPTOMS = 3
MOST_MISTAKES = 10


def show(report: Report, console: Console | None = None) -> None:
    """Print the report; without a console to stdout, in colour only where that is a terminal.

    A console that is not UTF gets plain text, with a question mark for each character it lacks.
    """
    console = console or Console(highlight=False)
    if not console.encoding.lower().startswith("utf"):
        plain = to_text(report, console.width)
        console.file.write(plain.encode(console.encoding, "replace").decode(console.encoding))
        return
    for part in _parts(report):
        console.print(part, highlight=False)


def to_text(report: Report, width: int = 110) -> str:
    """The report as plain text of `width` columns, without colour or control codes."""
    stream = io.StringIO()
    show(report, Console(file=stream, width=width, color_system=None, force_terminal=False, highlight=False))
    return "\n".join(row.rstrip() for row in stream.getvalue().splitlines()) + "\n"


def _parts(report: Report) -> Iterator[RenderableType]:
    verdict = report.verdict
    yield Text.assemble(
        (f"{MARKS[verdict]} {wording.VERDICT_WORDS[verdict].upper()}", STYLES[verdict]),
        "  ",
        (wording.line(report.title), "bold"),
        (f"  {wording.duration(report.seconds)}", "dim"),
    )
    yield Padding(Text(headline(report)), (0, 0, 0, 2))
    yield from _mistakes(report)
    if summary := rows(report):
        yield Padding(_table(report, summary), (0, 0, 0, 1))
    yield from _benchmark(report)
    for gate in report.gates:
        yield Text.assemble(
            (f"  {MARKS[gate.verdict]} ", STYLES[gate.verdict]),
            wording.line(gate.name),
            (f"  {wording.line(gate.measured)}, limit {wording.line(gate.limit)}", "dim"),
        )
    for engine in report.engines:
        capabilities = f" for {', '.join(map(wording.line, engine.capabilities))}" if engine.capabilities else ""
        outcome = wording.clean(engine.message) if engine.verdict != "passed" else wording.size(engine.bytes)
        yield Text.assemble(
            (f"  {MARKS[engine.verdict]} ", STYLES[engine.verdict]),
            f"engine {wording.line(engine.flavor)}, style {wording.line(engine.style)}{capabilities}",
            (f"  {outcome}", "dim"),
        )
    yield from _texts(report)
    yield from _problems(report)
    for note in report.notes:
        yield Text(f"  note: {wording.line(note)}", style="dim")


def _mistakes(report: Report) -> Iterator[RenderableType]:
    found = mistakes(report)
    for mistake in found[:MOST_MISTAKES]:
        yield Text.assemble("\n", ("  ✗ ", "red"), (f"{mistake.code} {mistake.title}", "bold red"))
        yield Padding(Text.assemble((mistake.target, "dim"), f"  {mistake.where}"), (0, 0, 0, 4))
        yield Padding(Text(mistake.explanation), (0, 0, 0, 4))
        if mistake.fit:
            yield Padding(Text(mistake.fit, style="dim"), (0, 0, 0, 4))
        if mistake.cases:
            yield Padding(Text(f"cases {mistake.cases}", style="dim"), (0, 0, 0, 4))
        yield Padding(Text(mistake.command, style="cyan"), (0, 0, 0, 4))
    if len(found) > MOST_MISTAKES:
        yield Text(f"  and {len(found) - MOST_MISTAKES} more in the report files", style="dim")


def _benchmark(report: Report) -> Iterator[RenderableType]:
    """What the summary leaves out: all timings, if it had no room or they have the rotation's share; memory."""
    many = len({record.workload for record in report.latencies}) > MOST_WORKLOADS
    if many or any(record.rotation_share is not None for record in report.latencies):
        yield Padding(
            _plain(benchmark_tables.narrow_table(benchmark_tables.timing_table(report), ["10 to 90 %"])), (0, 0, 0, 1)
        )
    if any(record.peak_bytes for record in report.contestants):
        yield Padding(
            _plain(benchmark_tables.narrow_table(benchmark_tables.memory_table(report), ["Remarks"])), (0, 0, 0, 1)
        )
        yield Padding(Text(benchmark_tables.MEMORY_EXPLANATION, style="dim"), (0, 0, 0, 2))
    for remark, who in benchmark_tables.remarks(report):
        yield Padding(Text(f"{who}: {remark}", style="dim"), (0, 0, 0, 2))
    for who, why in benchmark_tables.left_out(report):
        yield Text.assemble((f"  {MARKS['skipped']} ", STYLES["skipped"]), who, (f"  not timed: {why}", "dim"))


def _plain(found: benchmark_tables.Table) -> Table:
    """A table of plain text: the first column to the left, the others to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for index, name in enumerate(found[0]):
        table.add_column(Text(name), justify="left" if index < 1 else "right", overflow="fold")
    for row in found[1]:
        table.add_row(*map(Text, row))
    return table


def _table(report: Report, summary: tuple[Row, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    columns = {
        "Style": [Text(wording.line(row.style)) for row in summary],
        "Runtime": [Text(wording.runtime(row.runtime)) for row in summary],
        "Checks": [_checks(row) for row in summary],
        "Closest to its tolerance": [_worst(row) for row in summary],
        "Text": [_same(row) for row in summary],
    }
    for index, workload in enumerate(workloads(report)):
        columns[wording.line(workload)] = [_latency(row, index) for row in summary]
    columns["Size"] = [Text(wording.size(row.bytes) if row.bytes is not None else "") for row in summary]
    kept = {name: cells for name, cells in columns.items() if any(cell.plain for cell in cells)}
    for name in kept:
        right = name not in ("Style", "Runtime", "Text")
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for cells in zip(*kept.values()):
        table.add_row(*cells)
    return table


def _checks(row: Row) -> Text:
    if not row.judged:
        return Text(f"{row.skipped} skipped" if row.skipped else "", style="yellow")
    verdict: Verdict = "failed" if row.failed else "passed"
    return Text(f"{MARKS[verdict]} {row.passed}/{row.judged}", style=STYLES[verdict])


def _worst(row: Row) -> Text:
    if row.worst is None:
        return Text("")
    share = wording.share(row.worst)
    return Text(wording.beside(row.worst.error, row.worst.tolerance), style="red" if share > 1 else "")


def _same(row: Row) -> Text:
    return {True: Text("same"), False: Text("differs", style="red"), None: Text("")}[row.same_text]


def _latency(row: Row, index: int) -> Text:
    record = row.latencies[index]
    if record is None:
        return Text("")
    ratio = f" {wording.ratio(record.ratio)}" if record.ratio is not None else ""
    return Text.assemble(wording.milliseconds(record.median_ms), (ratio, "dim"))


def _texts(report: Report) -> Iterator[RenderableType]:
    """PyTorch's texts, with how many others agree; texts that differ are among the problems."""
    for generation in report.generations:
        if generation.agrees is None:
            others = [g for g in report.generations if g.prompt == generation.prompt and g.agrees is not None]
            same = sum(g.agrees is True for g in others)
            agreement = f"  {same} of {len(others)} the same" if others else ""
            verdict = "failed" if same < len(others) else text_verdict(others[0]) if others else "skipped"
            yield Text.assemble(
                (f"  {MARKS[verdict]} ", STYLES[verdict]),
                (wording.line(generation.prompt), "bold"),
                f" {wording.line(generation.text)}",
                (agreement, "dim"),
            )


def _problems(report: Report) -> Iterator[RenderableType]:
    found = problems(report)
    most = MOST_SYMPTOMS if report.diagnoses and len(found) > MOST_SYMPTOMS + 1 else MOST_PROBLEMS
    if found:
        yield Text("\nWhat failed", style="bold red")
    for problem in found[:most]:
        yield Text.assemble(("  ✗ ", "red"), (f"{problem.kind} ", "dim"), (problem.where, "bold"))
        yield Padding(Text(problem.message), (0, 0, 0, 4))
    if len(found) > most:
        yield Text(f"  and {len(found) - most} more in the report files", style="dim")
