"""A model that rotates q and leaves k alone is exported as it is, and everything that is said of it is true."""

from __future__ import annotations

import onnx
import pytest
from transformers.models.llama import modeling_llama

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from tests import tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The artifact of a Llama whose rotary function hands k back as it was given, what was noted, and the check."""
    both = modeling_llama.apply_rotary_pos_emb
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, *a, **kw: (both(q, k, *a, **kw)[0], k))
        folder, model = tmp_path_factory.mktemp("sides") / "artifact", tiny.loaded("llama")
        (record,) = api.export(model, folder)
        return folder, record, api.check(folder, model=model, quick=True, isolated=False)


def test_the_export_notes_it(exported):
    folder, record, _ = exported
    reported = "In layers 0–1 the model rotates q and no k of their own; it is written so."
    assert reported in record.findings
    (finding,) = [one for one in load_manifest(folder).findings if one.code == "one-sided"]
    assert (finding.severity, finding.message) == ("info", reported)
    assert {site.role for site in load_manifest(folder).sites} == {"q"}


@pytest.mark.slow
def test_the_check_does_not_say_that_pytorch_rotates_k(exported):
    _, _, report = exported
    assert not [record for record in report.checks if "PyTorch also rotates" in record.message]


@pytest.mark.slow
def test_a_rewritten_file_is_called_a_file(exported, tmp_path):
    folder, _, _ = exported
    record = api.rewrite(folder / "model.onnx", tmp_path / "m.onnx", "onnx", run=False)
    assert any(one.startswith("In layers 0–1 the file rotates q and no k") for one in record.findings)
    assert onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.node


@pytest.mark.slow
def test_a_model_that_rotates_both_has_no_such_note(tmp_path):
    (record,) = api.export(tiny.loaded("llama"), tmp_path / "artifact")
    assert not [one for one in record.findings if "of their own" in one]
