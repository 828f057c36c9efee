"""`check` opens what it is given, compares all of it with PyTorch, and says no when it should."""

import json
import shutil
import subprocess
import sys
import threading

import pytest

from faults.wrong_artifacts import with_other_sine
from rope_deploy import api
from rope_deploy.audit import stated_by
from rope_deploy.errors import ModelError, UsageError


def test_every_style_in_a_folder_is_checked_and_passes(artifacts):
    report = api.check(artifacts)
    assert report.verdict == "passed", [r for r in report.checks if r.verdict == "failed"]
    assert {record.style for record in report.checks} == {"tables", "onnx", "contrib", "plugin"}
    assert {record.runtime for record in report.checks} == {"file", "ort"}


def test_a_sine_of_the_wrong_sign_fails_and_names_layer_and_position(artifacts, tmp_path):
    broken = with_other_sine(artifacts / "onnx", tmp_path / "broken", lambda sine: -sine)
    report = api.check(broken, ignore_hashes=True)
    assert report.verdict == "failed"
    worst = next(record.worst for record in report.checks if record.verdict == "failed" and record.worst)
    assert worst.error > worst.tolerance


@pytest.mark.slow
def test_a_table_cut_short_fails_at_its_end(artifacts, tmp_path):
    def frozen(sine):
        sine[64:-1] = sine[63]
        return sine

    report = api.check(with_other_sine(artifacts / "tables", tmp_path / "frozen", frozen), ignore_hashes=True)
    failed = [record for record in report.checks if record.verdict == "failed"]
    assert failed
    assert all(
        record.worst is None or record.worst.position is None or record.worst.position >= 64 for record in failed
    )


def test_changed_files_are_refused_unless_asked_for(artifacts, tmp_path):
    changed = shutil.copytree(artifacts / "onnx", tmp_path / "changed")
    with (changed / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(UsageError, match=r"model\.onnx"):
        api.check(changed)


def test_one_case_can_be_run_alone(artifacts):
    report = api.check(artifacts / "tables", cases=("prefill",))
    assert "prefill" in {record.case for record in report.checks}
    assert len(report.checks) < len(api.check(artifacts / "tables").checks)


def test_unknown_runtime_case_and_missing_engine_are_refused(artifacts):
    with pytest.raises(UsageError, match="tpu"):
        api.check(artifacts / "tables", runtimes=("tpu",))
    with pytest.raises(UsageError, match="nonsense"):
        api.check(artifacts / "tables", cases=("nonsense",))
    with pytest.raises(UsageError, match="engine"):
        api.check(artifacts / "tables", runtimes=("trt",))


def test_pytorch_alone_is_no_comparison(artifacts):
    with pytest.raises(UsageError, match="nothing would be run"):
        api.check(artifacts / "onnx", runtimes=["torch"])


def test_a_model_that_moved_is_asked_for_by_name(artifacts, tmp_path):
    moved = shutil.copytree(artifacts / "tables", tmp_path / "moved")
    manifest = json.loads((moved / "rope_deploy.json").read_text())
    (moved / "rope_deploy.json").write_text(json.dumps({**manifest, "source": "/nowhere/model"}))
    with pytest.raises(ModelError, match="--model"):
        api.check(moved)


def test_no_configuration_is_read_beside_the_loading_of_the_model(artifacts, monkeypatch):
    """Both parse source, and of two threads that do, Python's parser stops one with a SystemError."""
    read = []

    def noted(*given):
        read.append(threading.current_thread())
        return stated_by(*given)

    monkeypatch.setattr("rope_deploy.runs.artifact_audits.stated_by", noted)
    api.check(artifacts / "onnx", quick=True, isolated=False)
    assert read == [threading.main_thread()]


def test_an_empty_folder_is_no_artifact(tmp_path):
    with pytest.raises(UsageError, match="not an artifact"):
        api.check(tmp_path)


@pytest.mark.slow
def test_without_a_reference_the_model_may_be_gone_and_pytorch_is_not_loaded(artifacts, tmp_path):
    moved = shutil.copytree(artifacts / "tables", tmp_path / "moved")
    manifest = json.loads((moved / "rope_deploy.json").read_text())
    (moved / "rope_deploy.json").write_text(json.dumps({**manifest, "source": "/nowhere/model"}))
    program = (
        "import sys; from rope_deploy.cli.main import main; "
        f"code = main(['check', {str(moved)!r}, '--no-reference', '--quick']); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stdout + done.stderr


def test_without_a_reference_a_wrong_sine_still_fails(artifacts, tmp_path):
    broken = with_other_sine(artifacts / "onnx", tmp_path / "broken", lambda sine: -sine)
    report = api.check(broken, ignore_hashes=True, reference=False)
    assert report.verdict == "failed" and report.diagnoses


def test_a_model_and_no_reference_contradict_each_other(artifacts):
    with pytest.raises(UsageError, match="no model"):
        api.check(artifacts / "tables", model="somewhere", reference=False)
