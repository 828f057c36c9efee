"""What a path or a name stands for, by its form and by what lies on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME
from rope_deploy.artifact.subject import Kind, artifacts_inside, is_hub_name, subject_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (f"art/{MANIFEST_NAME}", f"art/{MODEL_NAME}", "model/config.json", "some/text.txt", "a.gguf", "b.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("art", Kind.ARTIFACT),
        (f"art/{MODEL_NAME}", Kind.ARTIFACT_GRAPH),
        ("b.onnx", Kind.GRAPH),
        ("absent.onnx", Kind.GRAPH),
        ("ABSENT.ONNX", Kind.GRAPH),
        ("absent.Plan", Kind.ENGINE),
        ("absent.GGUF", Kind.GGUF),
        ("absent.engine", Kind.ENGINE),
        ("absent.plan", Kind.ENGINE),
        ("a.gguf", Kind.GGUF),
        ("some/text.txt", Kind.OTHER_FILE),
        ("model", Kind.MODEL_FOLDER),
        ("some", Kind.OTHER_FOLDER),
        (".", Kind.OTHER_FOLDER),
        ("package.module:function", Kind.FACTORY),
        ("owner/name", Kind.HUB_NAME),
        ("gpt2", Kind.HUB_NAME),
        ("./absent", Kind.ABSENT),
        ("/absent/folder", Kind.ABSENT),
        ("a/b/c", Kind.ABSENT),
        ("with\0null", Kind.HUB_NAME),
        ("a" * 300, Kind.HUB_NAME),
        ("./" + "a" * 300, Kind.ABSENT),
        ("a:" + "b" * 300, Kind.FACTORY),
        ("a" * 300 + ".onnx", Kind.GRAPH),
    ],
)
def test_kind(here: Path, given: str, kind: Kind) -> None:
    assert subject_of(given).kind is kind


def test_an_artifact_and_its_graph_name_the_artifact(here: Path) -> None:
    assert subject_of("art").artifact == subject_of(f"art/{MODEL_NAME}").artifact == Path("art")
    assert subject_of("b.onnx").artifact is None


def test_the_artifacts_inside_a_folder(here: Path) -> None:
    assert subject_of(".").inside == (Path("art"),)
    (here / ".hidden").mkdir()
    (here / ".hidden" / MANIFEST_NAME).touch()
    assert [path.name for path in artifacts_inside(here)] == ["art"]
    assert subject_of("b.onnx").inside == subject_of("art").inside == ()


def test_a_file_named_like_a_factory_is_a_file(here: Path) -> None:
    (here / "a:b").touch()
    assert subject_of("a:b").kind is Kind.OTHER_FILE


@pytest.mark.parametrize("name", ["~/model", "../model", "/model", "a/b/c"])
def test_what_is_written_as_a_path_is_no_name_on_the_hub(name: str) -> None:
    assert not is_hub_name(name)
