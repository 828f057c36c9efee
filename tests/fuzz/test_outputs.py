"""What commands wrote is read as one, or it is mixed; reports are the same whatever time they took."""

import shutil
from pathlib import Path

import pytest

from fuzz.outputs import Mixed, outputs, visible
from tests.runtimes.toy import write_toy


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_toy(tmp_path / "a", "tables")
    (tmp_path / "a" / "config.json").unlink()
    (tmp_path / "g").mkdir()
    (tmp_path / "g/m.onnx").write_text("a graph with m.onnx.1.data")
    (tmp_path / "g/m.onnx.1.data").write_text("weights")
    (tmp_path / "r.md").write_text("took 0.5 s")
    return tmp_path


def test_artifacts_graphs_and_files_are_units(place):
    (place / ".hidden").mkdir()
    (place / ".hidden/m.onnx").write_text("half")
    found = outputs(place)
    assert set(found) == {"a", "g/m.onnx", "r.md"}
    assert ".hidden" in visible(place)
    (place / "r.md").write_text("took 12e-3  s")
    assert outputs(place) == found
    (place / "r.md").write_text("failed")
    assert outputs(place) != found


def test_parts_that_do_not_belong_together_are_mixed(place):
    (place / "a/strange").touch()
    with pytest.raises(Mixed, match="strange"):
        outputs(place)
    shutil.rmtree(place / "a")
    (place / "g/m.onnx.1.data").rename(place / "g/m.onnx.2.data")
    with pytest.raises(Mixed, match="without its weights"):
        outputs(place)
