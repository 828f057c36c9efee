"""A campaign can be repeated and resumed, makes failures small, and sees accesses outside the box."""

import json
from pathlib import Path

import pytest

from fuzz.campaign import Campaign, Worker, smallest
from fuzz.seeds import made_seeds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.slow
def test_a_campaign_is_repeatable_and_goes_on_where_it_stopped(folder: Path) -> None:
    first = Campaign(folder, seed=7, cases=4, jobs=1, only=("manifest",), say=lambda line: None)
    assert first.run() == {}
    log = folder / "7.jsonl"
    codes = {line["number"]: line["code"] for line in map(json.loads, log.read_text().splitlines())}
    assert sorted(codes) == [0, 1, 2, 3]
    kept = log.read_text().splitlines()[:2]
    log.write_text("\n".join(kept) + "\n")
    again = Campaign(folder, seed=7, cases=4, jobs=1, only=("manifest",), say=lambda line: None)
    again.run()
    assert {line["number"]: line["code"] for line in map(json.loads, log.read_text().splitlines())} == codes


def test_opening_a_file_outside_the_box_is_seen(folder: Path) -> None:
    worker = Worker(made_seeds(folder), folder / "outside")
    recipe = {"surface": "configuration", "chosen": {"style": "tables", "form": "chain"}, "edits": [], "fails": False}
    try:
        inside = worker.ask({"recipe": {**recipe, "argv": ["inspect", "input/m"]}})
        outside = worker.ask({"recipe": {**recipe, "argv": ["check", "--audit", "../canary/secret.txt"]}})
    finally:
        worker.close()
    assert inside["faults"] == []
    assert outside["faults"] == ["outside: secret.txt"]


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_or_the_new(folder: Path) -> None:
    worker = Worker(made_seeds(folder), folder / "killed")
    chosen = {"style": "tables", "form": "chain", "other": "contrib"}
    line = "rewrite input/g/model.onnx -o out/g/model.onnx --style onnx --no-run --force"
    recipe = {"surface": "kill", "chosen": chosen, "argv": line.split(), "kills": [0.1, 0.5, 0.95]}
    try:
        result = worker.ask({"recipe": recipe})
        half = worker.ask({"recipe": {**recipe, "argv": [*line.split()[:-1], "--force", "--no-such-option"]}})
    finally:
        worker.close()
    assert (result["faults"], result["code"]) == ([], 0)
    assert half["faults"] == ["exit code 2"], "a writer that fails by itself cannot be judged"


def test_a_failure_is_made_small() -> None:
    class Stub:
        """Fails while the edit that ends in 3 is there."""

        def ask(self, job: dict) -> dict:
            return {"faults": ["hang"] if any(edit[-1] == 3 for edit in job["recipe"]["edits"]) else []}

    recipe = {"edits": [["f", "text.delete", number] for number in range(6)]}
    assert smallest(recipe, "hang", Stub())["edits"] == [["f", "text.delete", 3]]


def test_kills_that_a_failure_does_not_need_are_left_out() -> None:
    class Stub:
        def ask(self, job: dict) -> dict:
            return {"faults": ["mixed"] if 0.7 in job["recipe"]["kills"] else []}

    assert smallest({"edits": [], "kills": [0.1, 0.7, 0.9]}, "mixed", Stub()) == {"edits": [], "kills": [0.7]}
