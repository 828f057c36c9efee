"""What a manifest names as its model is described, not obeyed: no code is called and nothing is fetched."""

import json
import shutil
import sys

import pytest

from rope_deploy.artifact import MANIFEST_NAME, load_manifest
from rope_deploy.cli.main import main
from rope_deploy.errors import ModelError, UsageError
from rope_deploy.runs.reference_model import source_in_manifest

CODE = """
from pathlib import Path
def make():
    Path(__file__).with_name("CALLED").touch()
    return None
Path(__file__).with_name("IMPORTED").touch()
"""


@pytest.fixture
def evil(artifacts, tmp_path, monkeypatch):
    """An artifact that brings a module and names it as its model."""
    folder = shutil.copytree(artifacts / "onnx", tmp_path / "art")
    (folder / "evilmod.py").write_text(CODE)
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "source": "evilmod:make"}))
    monkeypatch.chdir(folder)
    yield folder
    sys.modules.pop("evilmod", None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", ".", "--quick"),
        ("bench", ".", "--runtime", "torch,ort", "--prompt", "4", "--new", "1", "--rounds", "1"),
        ("inspect", "."),
        ("check", ".", "--audit"),
    ],
    ids=" ".join,
)
def test_a_factory_that_a_manifest_names_is_not_imported(evil, capfd, arguments):
    code = main(list(arguments))
    assert code == (2 if arguments[-1] not in (".", "--audit") else 0)
    if code:
        assert "--model evilmod:make" in capfd.readouterr().err
    assert not (evil / "IMPORTED").exists() and "evilmod" not in sys.modules


@pytest.mark.parametrize("options", [("--model", "evilmod:make"), ("--trust-remote-code",)])
def test_the_user_may_name_or_trust_it(evil, capfd, options):
    assert main(["check", ".", "--quick", *options]) == 2
    assert (evil / "CALLED").exists() and "not a torch.nn.Module" in capfd.readouterr().err


@pytest.mark.parametrize("named", ["subprocess:getoutput", "this:x", "a.b:c"])
def test_any_factory_is_refused(artifacts, named):
    from dataclasses import replace

    manifest = replace(load_manifest(artifacts / "onnx"), source=named)
    with pytest.raises(UsageError, match="names a factory"):
        source_in_manifest(manifest, trusted=False)
    assert source_in_manifest(manifest, trusted=True) == named


def test_a_hub_name_is_looked_up_in_the_cache_alone(artifacts, monkeypatch):
    from dataclasses import replace

    import huggingface_hub

    asked = []

    def download(name, **options):
        asked.append(options)
        if name == "here/model":
            return "/cache/model"
        raise OSError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    manifest = load_manifest(artifacts / "onnx")
    assert source_in_manifest(replace(manifest, source="here/model"), trusted=False) == "/cache/model"
    with pytest.raises(ModelError, match="not on this machine"):
        source_in_manifest(replace(manifest, source="gone/model"), trusted=False)
    assert asked == [{"local_files_only": True}] * 2
