"""A limit is seen, and whoever runs the check allows it by name or not."""

from dataclasses import replace

import pytest

from rope_deploy.artifact import Limits, load_manifest
from rope_deploy.errors import UsageError
from rope_deploy.runs.artifact_limits import report_limits, require_limits
from rope_deploy.runs.manifest_claims import LIMITS, restrictions

FUSED = ("left_padding", "chunked_prefill_batch", "prompt_positions")


@pytest.fixture(scope="module")
def fused(artifacts):
    return load_manifest(artifacts / "contrib")


@pytest.fixture(scope="module")
def whole(artifacts):
    return load_manifest(artifacts / "onnx")


def test_a_graph_that_can_all_its_model_can_has_none(whole):
    assert report_limits(whole, whole.max_position) is None is report_limits(whole, None)


def test_what_an_operator_explains_is_shown_and_does_not_fail(fused):
    found = report_limits(fused, fused.max_position)
    assert found.record.verdict == "skipped" and not found.diagnoses
    assert found.note.startswith("RD608") and all(name in found.note for name in FUSED)


def test_under_ci_it_fails_unless_it_is_allowed_by_name(fused):
    found = report_limits(fused, fused.max_position, strict=True, allowed=FUSED[:2])
    assert found.record.verdict == "failed"
    assert [one.code for one in found.diagnoses] == ["RD608"] and "prompt_positions" in found.diagnoses[0].explanation
    assert report_limits(fused, fused.max_position, strict=True, allowed=FUSED).record.verdict == "skipped"


def test_a_table_proves_a_shorter_length_and_nothing_proves_a_number_of_tokens(whole):
    assert report_limits(whole, 10 * whole.max_position).record.verdict == "skipped"
    few = replace(whole, limits=Limits(tokens=9))
    assert report_limits(few, None).record.verdict == "failed"
    assert report_limits(few, None, allowed=("tokens",)).record.verdict == "skipped"
    computed = tuple(replace(one, cos_cache=None, sin_cache=None, cos_sin="computed") for one in whole.rotations)
    assert report_limits(replace(whole, rotations=computed), 10 * whole.max_position).record.verdict == "failed"


def test_every_limit_has_a_name(whole):
    everything = Limits(*[False] * 4, tokens=1)
    assert set(restrictions(replace(whole, limits=everything), 10**6)) == set(LIMITS)
    require_limits(LIMITS)
    with pytest.raises(UsageError, match="no limit width"):
        require_limits(("width",))


def test_configurations_allow_those_names_and_no_others():
    from typing import get_args

    from rope_deploy.config.schema import Limit

    assert set(get_args(Limit)) == set(LIMITS)
