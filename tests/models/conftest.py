"""Folders of tiny models, made once a session; a test that damages one takes a copy."""

from __future__ import annotations

import shutil
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
