"""One artifact on one runtime: what keeps it from opening is a failed record, except what the machine lacks."""

import pytest

from rope_deploy.errors import EnvironmentMissing, RuntimeCrashed, UsageError, VendorError
from rope_deploy.runs import check_runtime
from rope_deploy.runs.check_runtime import Questions, attempt, check_one
from rope_deploy.runs.open_artifact import Opened
from tests.runtimes.toy import Twin, write_toy


@pytest.fixture
def opened(tmp_path):
    return Opened(tmp_path / "toy", write_toy(tmp_path / "toy"))


def refusing(error):
    def open_it(*_):
        raise error

    return open_it


@pytest.mark.parametrize(
    ("error", "codes"),
    [(VendorError("It will not."), []), (UsageError("Cut."), []), (RuntimeCrashed("ort ended by SIGSEGV."), ["RD902"])],
)
def test_what_does_not_open_has_failed_in_its_own_words(opened, monkeypatch, error, codes):
    monkeypatch.setattr(check_runtime, "_open", refusing(error))
    outcome = attempt(opened, Twin(), "ort", Questions())
    (record,) = outcome.records
    assert outcome.failed and (record.case, record.style, record.message) == ("open", "onnx", error.asked)
    assert [one.code for one in outcome.diagnoses] == codes


def test_what_the_machine_lacks_is_raised(opened, monkeypatch):
    monkeypatch.setattr(check_runtime, "_open", refusing(EnvironmentMissing("No GPU.")))
    with pytest.raises(EnvironmentMissing):
        attempt(opened, Twin(), "trt", Questions())


def test_with_and_without_a_process_of_its_own_the_figures_are_the_same(opened):
    questions = Questions(only=("decode", "shuffled"))
    near, far = (check_one(opened, Twin(), "ort", questions, isolated=isolated) for isolated in (False, True))
    assert not near.failed
    for one, other in zip(near.records, far.records, strict=True):
        assert (one.case, one.verdict, one.logits_error) == (other.case, other.verdict, other.logits_error)
    assert near.curves == far.curves


def test_a_case_that_the_artifact_has_not_leaves_no_record(opened):
    assert check_one(opened, Twin(), "ort", Questions(only=("refuses-left-padding",))).records == ()
