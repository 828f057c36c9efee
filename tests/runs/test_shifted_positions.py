"""A module that puts its tokens elsewhere than position_ids says is exported as it is, and a check finds nothing."""

from __future__ import annotations

import pytest

from rope_deploy import api
from rope_deploy.models import load_model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shifted", "clamped", "wrapped"])
def test_what_pytorch_does_is_right(name, tmp_path):
    model = load_model(f"tests.models.plain:{name}")
    api.export(model, tmp_path / "artifact", max_position=128)
    report = api.check(tmp_path / "artifact", model=model, quick=True, isolated=False)
    assert report.verdict == "passed", [one.explanation for one in report.diagnoses]


@pytest.mark.slow
def test_another_offset_than_that_of_the_model_is_wrong(tmp_path):
    api.export(load_model("tests.models.plain:shifted"), tmp_path / "artifact", max_position=128)
    report = api.check(
        tmp_path / "artifact", model=load_model("tests.models.plain:in_place"), quick=True, isolated=False
    )
    assert report.verdict == "failed"
