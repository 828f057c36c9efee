"""The picture of error by layer and position: every error in its own colour and place."""

import math
import re
from dataclasses import replace

import pytest

from rope_deploy.report import heatmap
from rope_deploy.report.heatmap import COLUMNS, SOUND_STEPS, heat_maps, legend, step_of
from rope_deploy.report.html import to_html
from rope_deploy.results.records import ErrorMap


def one(report, *maps):
    return heat_maps(replace(report, maps=maps))


def drawn(panel):
    """{(row, column): step} of what the paths cover; a cell drawn twice is a fault."""
    cells = {}
    for step, path in panel.paths:
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path):
            for column in range(int(x), int(x) + int(width)):
                assert (int(y), column) not in cells
                cells[int(y), column] = step
    return cells


@pytest.mark.parametrize(
    ("ratio", "step"), [(0, 0), (0.1, 0), (0.2, 1), (0.5, 2), (1.0, 2), (1.0001, 3), (10, 3), (11, 4), (1e9, 6)]
)
def test_each_range_has_its_colour_and_one_is_still_sound(ratio, step):
    assert step_of(ratio) == step
    assert (step < SOUND_STEPS) == (ratio <= 1)


def test_infinity_has_the_last_colour():
    assert step_of(math.inf) == len(legend()) - 1


def test_every_error_is_drawn_where_it_belongs(empty):
    found = ErrorMap("onnx", "ort", "q", (2, 5), (0, 1, 2), ((0.5, 20.0, 0.001), (math.nan, math.inf, 2.0)))
    (only,) = one(empty, found)
    (panel,) = only.panels
    assert drawn(panel) == {(0, 0): 2, (0, 1): 4, (0, 2): 0, (1, 1): 6, (1, 2): 3}
    assert only.failed and panel.worst == "not a finite number at layer 5, near position 1"
    assert panel.at == (50.0, 75.0)
    assert [tick.label for tick in panel.y_ticks] == ["2", "5"]


def test_a_sound_map_is_not_marked(empty):
    (only,) = one(empty, ErrorMap("onnx", "ort", "q", (0,), (0, 1), ((0.5, 1.0),)))
    assert not only.failed and only.panels[0].at is None
    (planted,) = one(empty, ErrorMap("onnx", "ort", "q", (0,), (0, 1), ((0.5, 1.01),)))
    assert planted.failed and planted.panels[0].at is not None


def test_many_positions_share_columns_and_the_worst_of_them_shows(empty):
    positions = tuple(range(5000))
    errors = tuple(9.0 if position == 4321 else 0.5 for position in positions)
    (only,) = one(empty, ErrorMap("onnx", "ort", "q", (0,), positions, (errors,)))
    (panel,) = only.panels
    assert panel.columns <= COLUMNS
    assert sorted(drawn(panel).values()).count(step_of(9.0)) == 1
    assert panel.worst.endswith("position 4321")


def test_positions_far_apart_are_separated_by_a_gap(empty):
    positions = (*range(8), *range(1000, 1008))
    (only,) = one(empty, ErrorMap("onnx", "ort", "q", (0,), positions, ((0.5,) * 16,)))
    (panel,) = only.panels
    assert panel.columns == 16 + heatmap.GAP
    assert {column for _, column in drawn(panel)} == {*range(8), *range(10, 18)}
    assert [tick.label for tick in panel.x_ticks] == ["0–7", "1000–1007"]


def test_queries_come_before_keys_and_broken_styles_before_sound_ones(diagnosed):
    drawn_maps = heat_maps(diagnosed)
    assert [one.title for one in drawn_maps if one.failed] == ["onnx · ONNX Runtime"]
    assert drawn_maps[0].failed
    assert all([panel.role for panel in one.panels] == ["queries", "keys"] for one in drawn_maps)


def test_a_broken_style_is_in_sight_and_sound_ones_are_folded_away(diagnosed, mapped):
    page = to_html(diagnosed)
    above, details = page.split("<h2>Details</h2>")
    assert above.count('class="card panel heat"') == 1 and details.count('class="card panel heat"') == 3
    above, details = to_html(mapped).split("<h2>Details</h2>")
    assert 'class="card panel heat"' not in above and details.count('class="card panel heat"') == 4


def test_a_map_of_many_layers_stays_small(mapped):
    assert len(to_html(mapped)) < 400_000
