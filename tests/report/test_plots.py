"""The geometry: worse is higher, nothing is lost between the records and the picture."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.report.plots import bar_charts, error_plots
from rope_deploy.results.records import ErrorCurve, Report


def report(*curves, **results):
    return Report("t", "s", "c", "m", {}, 0.0, curves=curves, **results)


def points(path):
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_an_error_above_the_tolerance_is_drawn_above_its_line():
    (plot,) = error_plots(report(ErrorCurve("tables", "ort", "q", (0, 1, 2), (1e-6, 1e-2, 1e-5), 1e-4)))
    heights = [y for _, y in points(plot.lines[0].path)]
    assert heights[1] < plot.tolerance < heights[2] < heights[0]
    assert plot.failed and plot.worst == "1e-2" and "at position 1" in plot.lines[0].label


def test_an_error_within_the_tolerance_is_not_called_failed():
    (plot,) = error_plots(report(ErrorCurve("tables", "ort", "q", (0, 1), (1e-6, 1e-4), 1e-4)))
    assert not plot.failed


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_drawn_at_the_top_and_failed(bad):
    (plot,) = error_plots(report(ErrorCurve("tables", "ort", "q", (0, 1), (1e-6, bad), 1e-4)))
    assert plot.failed and points(plot.lines[0].path)[1][1] == 0


def test_zeros_lie_on_the_floor_below_every_power_of_ten():
    (plot,) = error_plots(report(ErrorCurve("tables", "ort", "q", (0, 1), (0.0, 1e-6), 1e-4)))
    assert points(plot.lines[0].path)[0][1] == 100
    assert plot.y_ticks[-1].label == "0" and all(tick.at < 95 for tick in plot.y_ticks[:-1])


def test_the_axis_breaks_where_positions_were_left_out(passing):
    plot = error_plots(passing)[0]
    assert [tick.label for tick in plot.x_ticks] == ["0–127", "1000", "8128–8191"]
    assert len(plot.breaks) == 2
    assert [line.path.count("M") for line in plot.lines] == [3, 3]


def test_one_run_of_positions_is_labelled_at_its_ends():
    positions = tuple(range(0, 300, 3))
    (plot,) = error_plots(report(ErrorCurve("tables", "ort", "q", positions, (1e-6,) * 100, 1e-4)))
    labels = [tick.label for tick in plot.x_ticks]
    assert labels[0] == "0" and labels[-1] == "297" and plot.breaks == ()


def test_a_single_spike_among_many_positions_is_not_lost():
    errors = [1e-7] * 50_000
    errors[31_234] = 1e-2
    (plot,) = error_plots(report(ErrorCurve("tables", "ort", "q", tuple(range(50_000)), tuple(errors), 1e-4)))
    drawn = points(plot.lines[0].path)
    assert len(drawn) <= 401
    assert min(y for _, y in drawn) < plot.tolerance


def test_styles_share_their_axes(failing):
    plots = error_plots(failing)
    assert len(plots) == 4 and len({(plot.y_ticks, plot.x_ticks, plot.tolerance) for plot in plots}) == 1
    assert [plot.failed for plot in plots] == [False, True, False, False]


def test_a_line_is_not_drawn_where_only_another_style_was_measured():
    everywhere = ErrorCurve("tables", "ort", "q", tuple(range(40)), (1e-6,) * 40, 1e-4)
    apart = ErrorCurve("contrib", "ort", "q", (*range(10), *range(30, 40)), (1e-6,) * 20, 1e-4)
    whole, broken = error_plots(report(everywhere, apart))
    assert (whole.lines[0].path.count("M"), broken.lines[0].path.count("M")) == (1, 2)


def test_curves_without_positions_are_left_out():
    assert error_plots(report(ErrorCurve("tables", "ort", "q", (), (), 1e-4))) == ()


curves = st.lists(
    st.builds(
        lambda pairs, tolerance: ErrorCurve(
            "a", "ort", "q", tuple(p for p, _ in pairs), tuple(e for _, e in pairs), tolerance
        ),
        st.lists(st.tuples(st.integers(0, 2**20), st.floats(min_value=0) | st.just(math.nan)), max_size=30),
        st.floats(min_value=0, max_value=1e3),
    ),
    max_size=3,
)


@given(curves)
@settings(deadline=None)
def test_every_point_lies_inside_the_frame(found):
    for plot in error_plots(report(*found)):
        drawn = [point for line in plot.lines for point in points(line.path)]
        assert drawn and all(0 <= x <= 100.01 and 0 <= y <= 100 for x, y in drawn)
        assert all(0 <= tick.at <= 100.01 for tick in (*plot.x_ticks, *plot.y_ticks))


def test_bars_are_sorted_and_scaled_to_the_longest(passing):
    prefill, decode = bar_charts(passing)
    assert [bar.style for bar in prefill.bars] == ["contrib", "onnx", "tables", "plugin", ""]
    assert max(bar.high for bar in prefill.bars) == 100
    assert [bar.fastest for bar in decode.bars] == [True, False, False, False, False]
    assert prefill.bars[-1].reference and prefill.bars[0].ratio == "0.49×"
    assert all(0 < bar.low <= bar.width <= bar.high <= 100 for bar in (*prefill.bars, *decode.bars))


def test_one_wild_timing_does_not_squeeze_the_bars(passing):
    wild = replace(passing.latencies[0], p90_ms=100 * passing.latencies[0].median_ms)
    prefill, _ = bar_charts(replace(passing, latencies=(wild, *passing.latencies[1:])))
    assert prefill.bars[-1].width == 80 and prefill.bars[-1].high == 100


def test_a_timing_that_is_no_time_is_left_out(passing):
    broken = replace(passing.latencies[0], median_ms=math.nan)
    (chart,) = bar_charts(report(latencies=(broken,)))
    assert chart.bars == () and chart.note == "nothing measured"
