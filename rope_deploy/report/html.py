"""Render one self-contained HTML page: no script, no request to anywhere, readable in the dark and on a phone.

The template escapes every value it is given, after `wording.clean` has written control characters as escapes.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from rope_deploy.report import benchmark_tables
from rope_deploy.report.grouped_mistakes import mistakes, worst_check
from rope_deploy.report.heatmap import SOUND_STEPS, heat_maps, legend
from rope_deploy.report.plots import bar_charts, error_plots
from rope_deploy.report.summary import (
    check_message,
    first_difference,
    headline,
    problems,
    rows,
    text_verdict,
    workloads,
)
from rope_deploy.results import wording
from rope_deploy.results.records import GenerationRecord, Report

FOOTER = "This page needs nothing but itself."


def to_html(report: Report) -> str:
    maps = heat_maps(report)
    return _template().render(
        report=report,
        headline=headline(report),
        rows=rows(report),
        workloads=workloads(report),
        problems=problems(report),
        mistakes=mistakes(report),
        worst_check=worst_check(report),
        wrong_maps=[one for one in maps if one.failed],
        sound_maps=[one for one in maps if not one.failed],
        legend=legend(),
        sound=SOUND_STEPS,
        error_plots=error_plots(report),
        bar_charts=bar_charts(report),
        benchmark=benchmark_tables,
        texts=_texts(report),
        wording=wording,
        check_message=check_message,
        footer=f"{wording.maker(report.kind)} {FOOTER}",
        text_verdict=text_verdict,
    )


def _texts(report: Report) -> list[tuple[str, list[tuple[str, str, list[GenerationRecord], str]]]]:
    """(prompt, its texts). A text is (text, verdict, who generated it, how it differs); equal texts are one."""
    grouped = []
    for prompt in dict.fromkeys(g.prompt for g in report.generations):
        by_text: dict[tuple[str, bool], list[GenerationRecord]] = {}
        for g in report.generations:
            if g.prompt == prompt:
                by_text.setdefault((g.text, g.agrees is False), []).append(g)
        variants = [
            (
                text,
                "failed" if differs else next((text_verdict(g) for g in who if g.agrees), "skipped"),
                who,
                first_difference(report, who[0]) if differs else "",
            )
            for (text, differs), who in by_text.items()
        ]
        grouped.append((prompt, variants))
    return grouped


@cache
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(lambda name: (files("rope_deploy.report") / "templates" / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: wording.clean(value) if type(value) is str else value,
    )
    return environment.get_template("report.html")
