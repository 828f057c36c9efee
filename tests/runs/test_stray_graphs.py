"""A folder of artifacts: what lies in it and is none of them is found, and an artifact hides no other."""

import shutil

import pytest

from rope_deploy import api
from rope_deploy.artifact import MANIFEST_NAME
from rope_deploy.artifact.subject import artifact_folders, folders_of_stray_graphs
from rope_deploy.errors import UsageError


def test_a_graph_that_is_no_artifact_directly_inside_is_found(artifacts, tmp_path):
    assert folders_of_stray_graphs(artifacts) == () == folders_of_stray_graphs(artifacts / "onnx")
    for name in ("onnx", "tables", "deeper/contrib", ".hidden"):
        shutil.copytree(artifacts / "onnx", tmp_path / name)
    for name in ("onnx", ".hidden"):
        (tmp_path / name / MANIFEST_NAME).unlink()
    (tmp_path / "onnx/model.onnx").rename(tmp_path / "onnx/model.ONNX")
    (tmp_path / "deeper/up").symlink_to(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in folders_of_stray_graphs(tmp_path)] == [
        "deeper/contrib",
        "onnx",
    ]
    with pytest.raises(UsageError):
        api.check(tmp_path / "onnx")
    report = api.check(tmp_path, runtimes=["ort"], cases=["prefill"])
    failed = {record.style for record in report.checks if record.verdict == "failed"}
    assert failed == {"contrib", "onnx"}


def test_an_artifact_that_holds_others_hides_none_of_them(artifacts, tmp_path):
    shutil.copytree(artifacts / "onnx", tmp_path / "out")
    assert artifact_folders(tmp_path / "out") == (tmp_path / "out",)
    shutil.copytree(artifacts / "tables", tmp_path / "out/wrong")
    for command in (api.check, api.audit):
        with pytest.raises(UsageError, match="is an artifact and holds others"):
            command(tmp_path / "out")
