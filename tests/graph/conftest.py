"""The sound file, written."""

from __future__ import annotations

import pytest

from tests.graph.sound import whole


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "model.onnx"
    place.write_bytes(whole(place).SerializeToString())
    return place
