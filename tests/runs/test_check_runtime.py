"""One artifact on one runtime: what keeps it from opening is a failed record, except what the machine lacks."""

import pytest

from rope_deploy.errors import EnvironmentMissing, RuntimeCrashed, UsageError, VendorError
from rope_deploy.options import CheckOptions
from rope_deploy.runs import check_runtime
from rope_deploy.runs.artifacts import Artifact
from rope_deploy.runs.check_runtime import CheckPlan, check_on_runtime, check_or_fail
from tests.runtimes.toy import Twin, write_toy


@pytest.fixture
def artifact(tmp_path):
    return Artifact(tmp_path / "toy", write_toy(tmp_path / "toy"))


def refusing(error):
    def open_it(*_):
        raise error

    return open_it


@pytest.mark.parametrize(
    ("error", "codes"),
    [(VendorError("It will not."), []), (UsageError("Cut."), []), (RuntimeCrashed("ort ended by SIGSEGV."), ["RD902"])],
)
def test_what_does_not_open_has_failed_with_its_own_message(artifact, monkeypatch, error, codes):
    monkeypatch.setattr(check_runtime, "_open", refusing(error))
    outcome = check_or_fail(artifact, Twin(), "ort", CheckPlan(CheckOptions()))
    (record,) = outcome.records
    assert outcome.failed and (record.case, record.style, record.message) == ("open", "onnx", error.asked)
    assert [one.code for one in outcome.diagnoses] == codes


def test_what_the_machine_lacks_is_raised(artifact, monkeypatch):
    monkeypatch.setattr(check_runtime, "_open", refusing(EnvironmentMissing("No GPU.")))
    with pytest.raises(EnvironmentMissing):
        check_or_fail(artifact, Twin(), "trt", CheckPlan(CheckOptions()))


@pytest.mark.children
def test_with_and_without_a_process_of_its_own_the_figures_are_the_same(artifact):
    plans = [CheckPlan(CheckOptions(cases=("decode", "shuffled"), isolated=isolated)) for isolated in (False, True)]
    near, far = (check_on_runtime(artifact, Twin(), "ort", plan) for plan in plans)
    assert not near.failed
    for one, other in zip(near.records, far.records, strict=True):
        assert (one.case, one.verdict, one.logits_error) == (other.case, other.verdict, other.logits_error)
    assert near.curves == far.curves


def test_a_case_that_the_artifact_has_not_leaves_no_record(artifact):
    plan = CheckPlan(CheckOptions(cases=("refuses-left-padding",)))
    assert check_on_runtime(artifact, Twin(), "ort", plan).records == ()
