"""What cannot be exported: the right class and exit code, words instead of a traceback, and nothing on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rope_deploy import api
from rope_deploy.errors import ModelError, RopeDeployError, UnmatchedRotation, UsageError
from tests import tiny
from tests.sweep import swept

ROOT = Path(__file__).parents[2]
SOURCES: Mapping[str, tuple[str, type[RopeDeployError], str]] = {
    "missing folder": ("/no/such/folder", ModelError, "There is no such folder"),
    "no safetensors": ("{pickle}", ModelError, "pickle files can run code"),
    "truncated weights": ("{truncated}", ModelError, "damaged or incomplete"),
    "no JSON": ("{broken}", ModelError, "config.json is not JSON"),
    "own code": ("{code}", ModelError, "--trust-remote-code"),
    "unknown rope type": ("{spiral}", UsageError, "'spiral' is not known"),
    "no GGUF": ("{zip}", ModelError, "is not a GGUF file"),
    "no input_ids": ("tests.models.plain:pixels", ModelError, "What Pixels is to be fed"),
    "no module": ("tests.models.plain:number", ModelError, "not a torch.nn.Module"),
    "no rotation": ("tests.models.plain:without_rotation", UnmatchedRotation, "no rotary position embedding"),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> dict[str, Path]:
    """One damaged model a name."""
    out = tmp_path_factory.mktemp("damaged")

    def model(name: str, **settings) -> Path:
        folder = tiny.save_family("llama", out / name)
        config = {**json.loads((folder / "config.json").read_text()), **settings}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    pickle, truncated, broken = (model(name) for name in ("pickle", "truncated", "broken"))
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    (broken / "config.json").write_text("{'single': 'quotes'}")
    (out / "model.gguf").write_bytes(b"PK\x03\x04")
    return {
        "pickle": pickle,
        "truncated": truncated,
        "broken": broken,
        "code": model("code", auto_map={"AutoModelForCausalLM": "own.Model"}),
        "spiral": model("spiral", rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}),
        "zip": out / "model.gguf",
    }


@pytest.mark.parametrize("case", SOURCES)
def test_a_source_that_cannot_be_exported(case, damaged, tmp_path):
    source, kind, message = SOURCES[case]
    with pytest.raises(RopeDeployError) as caught:
        api.export(source.format(**damaged), tmp_path / "new" / "artifact", styles=("tables", "onnx"))
    assert type(caught.value) is kind
    assert caught.value.exit_code == 2
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "Unknown dtype 'float8'"),
        ({"styles": ()}, "at least one"),
        ({"styles": ("tables", "tables")}, "Give each style once"),
        ({"styles": ("magic",)}, "Unknown style 'magic'"),
    ],
)
def test_an_option_that_does_not_exist(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        api.export("tests.models.plain:plain", tmp_path / "artifact", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_the_model_is_even_looked_for(tmp_path):
    (tmp_path / "artifact").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        api.export("/no/such/folder", tmp_path / "artifact")


@pytest.mark.slow
def test_a_table_longer_than_the_model_has_is_refused(tmp_path):
    """GPT-J reads its angles from a table of its own, which ends."""
    with pytest.raises(UsageError, match="position"):
        api.export(tiny.loaded("gptj"), tmp_path / "artifact", max_position=tiny.POSITIONS + 1)
    assert list(tmp_path.iterdir()) == []


# The same at the command line


def run(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "rope_deploy", "export", *arguments]
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("case", swept(["truncated weights", "own code", "no input_ids"], ["own code"]))
def test_the_command_line_answers_with_a_message(case, damaged, tmp_path):
    source, kind, message = SOURCES[case]
    done = run(source.format(**damaged), "-o", "new/artifact", "--json", where=tmp_path)
    assert done.returncode == kind.exit_code
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == kind.__name__
    assert message in " ".join((error["asked"], error["exists"], error["todo"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_line_exports_and_then_refuses_to_overwrite(tmp_path):
    arguments = ("tests.models.plain:plain_with_config", "-o", "artifact", "--style", "onnx")
    done = run(*arguments, where=tmp_path)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["onnx", "artifact:"]), done.stderr
    again = run(*arguments, where=tmp_path)
    assert again.returncode == 2
    assert "artifact exists already" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]
