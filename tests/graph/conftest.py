"""The sound file, written."""

from __future__ import annotations

import pytest

from tests.graph.sound import whole


@pytest.fixture
def path(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(whole(model).SerializeToString())
    return model
