"""A file that crashes a library ends in an error that names it; the command, and the rest of a check, live on."""

import json
import shutil

import onnx
import pytest

from rope_deploy.artifact import MODEL_NAME
from rope_deploy.cli.main import main
from rope_deploy.runs import artifact_audits
from tests.runtimes.toy import write_toy

pytestmark = pytest.mark.children


@pytest.fixture
def crashing(artifacts, tmp_path):
    """An artifact with an axis that the shape inference of ONNX ends its process over."""
    folder = shutil.copytree(artifacts / "tables", tmp_path / "crashing")
    model = onnx.load(folder / MODEL_NAME, load_external_data=False)
    (ids,) = [value for value in model.graph.input if value.name == "input_ids"]
    ids.type.tensor_type.shape.dim[1].dim_value = -(2**63)
    (folder / MODEL_NAME).write_bytes(model.SerializeToString())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "{}", "--audit", "--ignore-hashes"),
        ("check", "--audit", "{}/model.onnx", "--against", "{}"),
        ("check", "{}", "--ignore-hashes"),
        ("rewrite", "{}/model.onnx", "-o", "{}/out.onnx", "--style", "onnx"),
        ("inspect", "{}/model.onnx"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_no_file_ends_the_command(crashing, capfd, arguments):
    code = main([word.format(crashing) for word in arguments])
    err = capfd.readouterr().err
    assert "Traceback" not in err and not (crashing / "out.onnx").exists()
    assert code in (2, 4) or arguments[0] == "inspect"
    if code:
        assert str(crashing) in err


def test_in_a_check_it_is_one_failed_record(tmp_path, monkeypatch, capfd):
    write_toy(tmp_path / "toy")
    monkeypatch.setattr(artifact_audits, "AUDIT", "tests.crashes:aborts")
    code = main(["check", str(tmp_path / "toy"), "--no-reference", "--quick", "--json"])
    document = json.loads(capfd.readouterr().out)
    records = {record["case"]: record for record in document["checks"] if record["runtime"] == "file"}
    assert code == 1 and records["audit"]["verdict"] == "failed" and "SIGABRT" in records["audit"]["message"]
    others = [record["verdict"] for record in document["checks"] if record["runtime"] == "ort"]
    assert len(others) > 5 and set(others) == {"passed"}
