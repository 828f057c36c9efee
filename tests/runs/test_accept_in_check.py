"""A mistake that was accepted at the export is accepted by a check that is told so, and by no other."""

import json
from pathlib import Path

import pytest

from rope_deploy import api
from rope_deploy.errors import MistakeFound, UsageError
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose configuration asks for half of what its code turns."""
    folder = tiny.save_family("smollm2", tmp_path_factory.mktemp("accept") / "model", num_hidden_layers=1)
    stated = json.loads((folder / "config.json").read_text())
    stated["rope_parameters"]["partial_rotary_factor"] = 0.5
    (folder / "config.json").write_text(json.dumps(stated))
    return folder


@pytest.fixture(scope="module")
def artifact(model: Path) -> Path:
    with pytest.raises(MistakeFound, match="not what the configuration asks for"):
        api.export(str(model), model.parent / "refused")
    api.export(str(model), model.parent / "artifact", accept=["RD103"])
    return model.parent / "artifact"


@pytest.mark.slow
def test_the_check_fails_unless_it_accepts_the_same(artifact: Path) -> None:
    assert {one.code for one in api.check(artifact, quick=True, isolated=False).diagnoses} == {"RD603"}
    accepted = api.check(artifact, quick=True, isolated=False, accept=["RD103"])
    assert accepted.verdict == "passed", accepted.diagnoses


def test_another_code_accepts_nothing(artifact: Path) -> None:
    assert api.check(artifact, quick=True, isolated=False, accept=["RD301"]).verdict == "failed"
    with pytest.raises(UsageError):
        api.check(artifact, accept=["RD999"])
