"""The workflows in examples/ci can be copied as they are: their commands run, and what they upload exists."""

import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rope_deploy.cli import main as entry
from rope_deploy.report import FILE_NAMES
from tests import tiny
from tests.test_readme import parse

ROOT = Path(__file__).parent.parent
GITHUB = yaml.safe_load((ROOT / "examples/ci/github-actions.yml").read_text())
GITLAB = yaml.safe_load((ROOT / "examples/ci/gitlab-ci.yml").read_text())
JOB = GITHUB["jobs"]["gate"]
CONFIGS = JOB["strategy"]["matrix"]["config"]

RUN = """
[model]
source = "{source}"
[export]
styles = ["onnx", "tables"]
[check]
set = "quick"
[bench]
prompt = 8
new = 0
rounds = 5
baseline = "rope/decoder.baseline.json"
other_machine = "skip"
[gates]
max_slowdown = 50.0
all_rotations_converted = true
max_nodes = {nodes}
"""


def commands() -> Iterator[str]:
    """Every line that either workflow runs, for its first configuration."""
    for step in JOB["steps"]:
        yield from step.get("run", "").splitlines()
    for job in GITLAB.values():
        yield from (*job.get("before_script", ()), *job.get("script", ()))


def filled(text: str, config: str = CONFIGS[0]) -> str:
    """`text` with the variables of the matrix in place."""
    text = text.replace("${{ matrix.config }}", config).replace("$CONFIG", config)
    assert "${{" not in text, text
    return text


def test_both_workflows_run_the_same_commands_on_the_same_configurations():
    ours = {line for line in commands() if line.startswith("rope-deploy")}
    assert len({filled(line) for line in ours}) == 2 and len(ours) == 4
    assert GITLAB[".rope"]["parallel"]["matrix"] == [{"CONFIG": CONFIGS}]


@pytest.mark.parametrize("line", sorted({filled(line) for line in commands() if line.startswith("rope-deploy")}))
def test_the_command_lines_parse(line, monkeypatch):
    monkeypatch.setattr("click.Path.convert", lambda self, value, param, ctx: value)
    parse(line)


def test_every_other_command_is_one_we_know():
    others = {shlex.split(filled(line))[0] for line in commands() if not line.startswith("rope-deploy")}
    assert others == {"pip", "cat"}


def test_what_is_installed_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installs = [line for line in commands() if line.startswith("pip install")]
    for line in installs:
        assert set(re.findall(r"\[(.*)\]'", line)) <= set(extras) and "-c tools/rope-deploy/constraints.txt" in line
    assert len(installs) == 2 and (ROOT / "constraints.txt").is_file()


def test_nothing_of_the_event_reaches_a_shell():
    """What a pull request's author can write (titles, branch names) must not be pasted into a script."""
    scripts = " ".join(step.get("run", "") for step in JOB["steps"])
    assert set(re.findall(r"\$\{\{(.*?)\}\}", scripts)) == {" matrix.config "}


def uploads() -> set[str]:
    """The paths that the steps of either workflow read or keep, with wildcards."""
    found = set()
    for step in JOB["steps"]:
        given = step.get("with", {})
        for name in ("report_paths", "sarif_file"):
            found.add(given.get(name, ""))
        if "upload-artifact" in step.get("uses", ""):
            found |= set(given["path"].splitlines())
        found |= set(re.findall(r"^cat (.+?) >>", step.get("run", "")))
    kept = GITLAB[".rope"]["artifacts"]
    return {filled(path) for path in (*found, *kept["paths"], kept["reports"]["junit"]) if path}


def steps_ask_for_files_that_are_read() -> bool:
    """Each step that reads a report asks first whether that report is there."""
    for step in JOB["steps"]:
        read = re.findall(r"report\.\w+", str(step.get("with", "")) + step.get("run", ""))
        asked = re.findall(r"report\.\w+", step.get("if", ""))
        if read and not asked:
            return False
        if asked and "upload-artifact" not in step.get("uses", "") and read != asked:
            return False
    return True


def test_steps_ask_for_the_files_they_read():
    assert steps_ask_for_files_that_are_read()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as the workflows assume it."""
    place = tmp_path_factory.mktemp("repository")
    (place / "rope").mkdir()
    tiny.save_family("llama", place / "model", max_position_embeddings=64)
    return place


def run(repository: Path, line: str, nodes: int) -> int:
    (repository / "rope" / "decoder.toml").write_text(RUN.format(source="model", nodes=nodes))
    before = Path.cwd()
    os.chdir(repository)
    try:
        return entry.main(shlex.split(line)[1:])
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_they_run_from_a_first_baseline_to_a_failed_gate(repository, monkeypatch):
    monkeypatch.setattr(entry, "quiet_libraries", lambda: None)
    gate, update = sorted({filled(line) for line in commands() if line.startswith("rope-deploy")})
    assert run(repository, gate, 5000) == 2  # no baseline yet: it says how to make one
    assert run(repository, update, 5000) == 0
    assert run(repository, f"{gate} --force", 5000) == 0
    assert run(repository, f"{gate} --force", 1) == 1

    # The failed run has left everything that the next steps show and keep.
    for path in uploads():
        assert list(repository.glob(path)), path
    assert {p.name for p in (repository / "out/decoder").glob("report.*")} == set(FILE_NAMES.values())
    (summary,) = [step for step in JOB["steps"] if "GITHUB_STEP_SUMMARY" in step.get("run", "")]
    shown = repository / "summary.md"
    environment = {**os.environ, "GITHUB_STEP_SUMMARY": str(shown)}
    subprocess.run(["bash", "-ec", filled(summary["run"])], cwd=repository, env=environment, check=True)
    assert "max&#95;nodes" in shown.read_text() or "max_nodes" in shown.read_text()


def test_the_tool_itself_reads_no_variable_of_a_ci_service():
    for path in (ROOT / "rope_deploy").rglob("*.py"):
        assert not re.search(r"GITHUB_|GITLAB|CI_PROJECT", path.read_text()), path
