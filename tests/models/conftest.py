"""Folders of tiny models, made once a session; a test that damages one takes a copy."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    return tiny.save_family("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def copied(llama, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(llama, tmp_path / "model"))


@pytest.fixture
def code_cache(tmp_path, monkeypatch) -> None:
    """Code that comes with a model is copied to a place of this test's own, and forgotten after it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
        monkeypatch.delitem(sys.modules, name)
