"""Manifests of artifacts and engines that are no documents of ours."""

import os

import pytest

from rope_deploy.artifact import MANIFEST_NAME, load_manifest
from rope_deploy.cli.main import main
from rope_deploy.errors import ConfigError
from rope_deploy.safe_reading import LARGEST


@pytest.mark.parametrize("name", [MANIFEST_NAME, "a.engine.json"])
def test_a_manifest_larger_than_any_document_is_not_read(name, tmp_path, capsys):
    (tmp_path / "a.engine").write_bytes(b"engine")
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, LARGEST + 1)
    subject = tmp_path if name == MANIFEST_NAME else tmp_path / "a.engine"
    assert main(["inspect", str(subject)]) == 2
    said = capsys.readouterr().err
    assert name in said and f"has {LARGEST + 1} bytes" in said


def test_a_manifest_that_states_a_key_twice_is_refused(tmp_path):
    (tmp_path / MANIFEST_NAME).write_text('{"limits": {"tokens": 4}, "limits": {}}')
    with pytest.raises(ConfigError, match="states 'limits' twice"):
        load_manifest(tmp_path)
