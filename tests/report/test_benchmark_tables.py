"""Two tables say what a benchmark found; every renderer shows them."""

from dataclasses import replace

import pytest

from rope_deploy.report import render
from rope_deploy.report.benchmark_tables import left_out, memory_table, remarks, timing_table
from rope_deploy.results.records import ContestantRecord


@pytest.fixture
def timed(passing):
    latencies = tuple(
        replace(r, ratio_low=0.9 * r.ratio, ratio_high=1.2 * r.ratio, rotation_share=0.042) if r.style else r
        for r in passing.latencies
    )
    contestants = (
        ContestantRecord("torch", "", "passed", "", 1_200_000_000, 900_000_000, 74_000_000, None, "No profiler."),
        ContestantRecord("ort", "onnx", "passed", "", 700_000_000, 690_000_000, 74_000_000, 587_000_000),
        ContestantRecord("torch-compile", "", "skipped", "No C++ compiler."),
    )
    return replace(passing, latencies=latencies, contestants=contestants)


def test_every_timing_has_a_row_with_its_noise_and_the_share_of_the_rotation(timed):
    head, body = timing_table(timed)
    assert len(body) == len(timed.latencies) and {len(row) for row in body} == {len(head)}
    row = dict(zip(head, body[2]))
    assert (row["Style"], row["Ratio's noise"], row["Rotation"]) == ("onnx", "0.50 to 0.67", "4.2 %")
    assert body[0][-2:] == ["", ""]  # PyTorch is what ratios refer to


def test_everyone_has_a_row_of_needs_and_who_was_left_out_says_why(timed):
    head, body = memory_table(timed)
    assert [dict(zip(head, row))["Most memory"] for row in body] == ["1.2 GB", "700 MB", ""]
    assert body[2][-1] == "Left out: No C++ compiler."
    assert left_out(timed) == [("torch.compile", "No C++ compiler.")]
    assert remarks(timed) == [("No profiler.", "PyTorch")]


def test_a_run_that_measured_no_memory_has_no_table_of_it(passing):
    plain = replace(passing, contestants=(ContestantRecord("ort", "onnx", "passed"),))
    assert memory_table(plain)[1] == [] and "Memory" not in render(plain, "markdown")


@pytest.mark.parametrize("format", ["terminal", "markdown", "html"])
def test_every_renderer_shows_them(timed, format):
    text = render(timed, format)
    for word in ("4.2 %", "700 MB", "587 MB", "No C++ compiler.", "No profiler."):
        assert word in text.replace("&#32;", " "), word


def test_a_terminal_of_80_columns_shows_a_timing_in_one_line(timed):
    from rope_deploy.report.terminal import to_text

    lines = to_text(timed, 80).splitlines()
    assert any("onnx" in line and "prefill 128" in line and "4.2 %" in line for line in lines)
