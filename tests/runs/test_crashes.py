"""A graph that crashes ONNX Runtime ends no command by a signal: an error names the file."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from rope_deploy.childprocess import environment
from rope_deploy.errors import RuntimeCrashed
from rope_deploy.models import load_model
from rope_deploy.runs.artifacts import load_artifacts
from rope_deploy.runs.generate import generate_all
from rope_deploy.runs.graph_records import read_graph
from tests.crashing import crash_at
from tests.runtimes.toy import write_toy

pytestmark = pytest.mark.children
LENGTH = 8


@pytest.fixture
def crashing(tmp_path):
    write_toy(tmp_path / "toy")
    crash_at(tmp_path / "toy", LENGTH)
    return tmp_path / "toy"


def command(*arguments):
    line = [sys.executable, "-P", "-m", "rope_deploy", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=environment())


def test_the_graph_really_does(crashing):
    code = "import sys; from rope_deploy.bench.contestant_job import *\n"
    code += "rehearse(ContestantJob('ort', sys.argv[1], (8,), 0))"
    died = subprocess.run([sys.executable, "-P", "-c", code, str(crashing)], env=environment(), capture_output=True)
    assert died.returncode == -signal.SIGFPE


@pytest.mark.slow
def test_bench_says_what_crashed_and_other_lengths_are_timed(crashing):
    fatal = command("bench", crashing, "--prompt", f"4,{LENGTH}", "--new", 1, "--rounds", 1)
    assert fatal.returncode == 4 and "Trying ort/" in fatal.stderr and "ended by SIGFPE" in fatal.stderr
    assert str(crashing) in fatal.stderr and "Traceback" not in fatal.stderr
    sound = command("bench", crashing, "--prompt", 4, "--new", 1, "--rounds", 1, "--json")
    assert sound.returncode == 0 and len(json.loads(sound.stdout)["latencies"]) == 2


@pytest.mark.slow
def test_bench_of_a_crash_while_decoding(tmp_path):
    write_toy(tmp_path)
    crash_at(tmp_path, 1)
    fatal = command("bench", tmp_path, "--prompt", 4, "--new", 1, "--rounds", 1)
    assert fatal.returncode == 4 and "ended by SIGFPE" in fatal.stderr


def test_generating_too(artifacts, source, tmp_path):
    folder = shutil.copytree(artifacts / "tables", tmp_path / "tables")
    loaded = replace(load_model(str(source)), tokenizer=_Tokenizer())
    (sound,) = [one for one in generate_all(load_artifacts(folder), loaded, ["a"], 2) if one.runtime == "ort"]
    assert sound.agrees
    crash_at(folder, LENGTH)
    with pytest.raises(RuntimeCrashed, match="SIGFPE"):
        generate_all(load_artifacts(folder), loaded, ["a"], 2)


class _Tokenizer:
    def __call__(self, text):
        return {"input_ids": list(range(LENGTH))}

    def decode(self, tokens, skip_special_tokens):
        return " ".join(map(str, tokens))


def test_where_nodes_run_is_asked_in_a_process_of_its_own(crashing, monkeypatch):
    (artifact,) = load_artifacts(crashing)
    assert read_graph(artifact, "CPUExecutionProvider").providers
    monkeypatch.setattr("rope_deploy.runs.graph_records.PLACEMENT", "tests.crashes:aborts")
    with pytest.raises(RuntimeCrashed, match="SIGABRT"):
        read_graph(artifact, "CPUExecutionProvider")
