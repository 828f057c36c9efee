"""One tiny model, exported once in every style, for all tests of whole runs."""

from pathlib import Path

import pytest

from rope_deploy import api
from tests import tiny


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_family("smollm2", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def artifacts(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one artifact a style."""
    folder = tmp_path_factory.mktemp("artifacts") / "all"
    api.export(str(source), folder, styles=("tables", "onnx", "contrib", "plugin"))
    return folder
