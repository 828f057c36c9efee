"""How far an export reaches by default."""

import pytest

from rope_deploy.export import prepare
from rope_deploy.options import ExportOptions
from tests import tiny

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}


@pytest.mark.slow
def test_dynamic_ntk_reaches_beyond_the_trained_length_and_is_no_frozen_table():
    prepared = prepare(tiny.loaded("llama", rope_parameters=DYNAMIC))
    assert prepared.max_position == 4 * tiny.POSITIONS
    assert [rotation.table.kind for rotation in prepared.raised.rotations] == ["computed"]


def test_a_table_of_the_trained_length_would_be_frozen():
    """The planted fault: the trap that the default avoids."""
    prepared = prepare(tiny.loaded("llama", rope_parameters=DYNAMIC), ExportOptions(max_position=tiny.POSITIONS))
    assert [rotation.table.kind for rotation in prepared.raised.rotations] == ["table"]


@pytest.mark.slow
def test_static_rules_reach_as_far_as_the_model_says():
    assert prepare(tiny.loaded("qwen2")).max_position == tiny.POSITIONS
