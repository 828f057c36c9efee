"""Every shipped configuration decodes."""

from pathlib import Path

import pytest

from rope_deploy.config import load_config

CONFIGS = sorted((Path(__file__).parent.parent / "export_configs").glob("*.toml"))


def test_there_are_configurations() -> None:
    assert len(CONFIGS) >= 9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_decodes(path: Path) -> None:
    assert load_config(path).model
