"""The second opinion shares no code with the first, and tells right from wrong."""

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest

from conformance.families import verify
from conformance.families.census import select
from conformance.families.tiny import tiny_model
from rope_deploy import api

pytestmark = pytest.mark.filterwarnings("ignore")


def exported(folder: Path, name: str, *styles: str) -> Path:
    tiny_model(select([name])[0]).save_pretrained(folder / "model")
    for style in styles:
        api.export(str(folder / "model"), folder / "exported" / style, styles=(style,))
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return exported(tmp_path_factory.mktemp("llama"), "llama", "tables", "contrib")


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(verify.__file__).read_text())
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in named if name.split(".")[0] in ("rope_deploy", "benchmarks", "tests", "")]


@pytest.mark.slow
def test_right_graphs(llama: Path) -> None:
    found = verify.verify(llama)
    assert found["verdict"] == "right"
    assert 0 < found["worst"] < 1e-4
    assert found["fault"] > 0.1
    tables, contrib = found["graphs"]["exported/tables"], found["graphs"]["exported/contrib"]
    assert {"from 1000", "strided, by steps", "left padding"} <= tables.keys()
    assert "from 1000, by steps" in contrib
    assert "left padding" not in contrib  # its manifest says that it cannot


@pytest.mark.slow
def test_a_graph_of_other_angles_is_wrong(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(llama, folder)
    config = folder / "model" / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 20000.0'))
    found = verify.verify(folder)
    assert found["verdict"] == "wrong"
    assert found["worst"] > 1e-2


@pytest.mark.slow
def test_what_does_not_feel_positions_is_blind(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "misplaced", verify.whole)
    assert verify.verify(llama)["verdict"] == "blind"


@pytest.mark.slow
def test_steps_of_pytorch_are_the_measure_only_where_it_disagrees_with_itself(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "itself" not in verify.verify(llama)
    honest = verify.by_steps
    monkeypatch.setattr(verify, "by_steps", lambda graph, given: honest(graph, given) + 0.01)
    found = verify.verify(llama)
    assert found["verdict"] == "wrong"  # a graph whose steps are off is not saved by PyTorch's
    assert max(found["itself"].values()) < 1e-4


@pytest.mark.sweep
def test_positions_that_the_graph_counts_itself(tmp_path: Path) -> None:
    found = verify.verify(exported(tmp_path, "esm", "tables"))
    assert found["verdict"] == "right"
    assert found["fault"] > 1e-2


def test_each_axis_of_a_position_has_its_own() -> None:
    given = verify.feeds(0, np.ones((2, 8), np.int64), np.tile(np.arange(8), (2, 1)), 3)
    assert given["position_ids"].shape == (3, 2, 8)
    assert not np.array_equal(given["position_ids"][0], given["position_ids"][1])


def test_what_it_cannot_feed_is_not_verified(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert verify.verify(tmp_path)["verdict"] == "not verified"
