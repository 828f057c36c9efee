"""README and the pages in docs tell the truth: what they show is run, on a tiny model in `path/to/model`."""

import shlex
from pathlib import Path

import pytest

from rope_deploy.cli import main as entry
from tests import tiny
from tests.test_readme import blocks, command_lines

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
pytest.importorskip("tensorrt_rtx", reason="the examples build an engine")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_family("llama", tmp_path_factory.mktemp("tiny") / "model", max_position_embeddings=256)


@pytest.fixture
def place(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory as the examples assume it."""
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "model").symlink_to(model)
    (tmp_path / "rope.toml").write_text(*blocks(README, "toml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.slow
def test_the_commands_and_programs_of_readme_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "quiet_libraries", lambda: None)
    export, *others = command_lines(section("Quick start"), "rope-deploy")
    assert entry.main(shlex.split(export)[1:]) == 0
    (place / "theirs").symlink_to(place / "out" / "model")
    others += command_lines((ROOT / "docs" / "checking.md").read_text(), "rope-deploy")
    for line in [*others, *command_lines((ROOT / "docs" / "bench.md").read_text(), "rope-deploy")[:1]]:
        assert entry.main(shlex.split(line, comments=True)[1:]) == 0, line
    for page in ("README.md", "docs/artifact.md"):
        for code in blocks((ROOT / page).read_text(), "python"):
            exec(compile(code, page, "exec"), {})
    for product in ("out/check.html", "out/model.engine", "out/before.json", "ours/model.onnx", "out/onnx"):
        assert (place / product).exists(), product


@pytest.mark.slow
def test_the_examples_of_the_api_page_run_one_after_another(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for code in blocks((ROOT / "docs" / "api.md").read_text(), "python"):
        exec(compile(code, "api.md", "exec"), names)
    assert names["report"].verdict == "passed"
    assert (place / "out" / "rope" / "report.html").exists()
    assert "(1, 3, 96)" in capsys.readouterr().out
