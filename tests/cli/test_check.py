"""`rope-deploy check` on what is broken: a clear message, the right exit code, and the other cases still run."""

import json
import shutil

import pytest

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME
from rope_deploy.cli.main import main
from rope_deploy.runs import check_runtime
from rope_deploy.runtimes import open_isolated
from tests.runtimes.toy import Faults, write_toy
from tests.sweep import swept


@pytest.fixture
def toy(tmp_path):
    write_toy(tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
def check(capfd):
    """`check(folder, *options)`: exit code, the JSON report or None, and what stood on standard error."""

    def run(folder, *options):
        code = main(["check", str(folder), "--no-reference", "--json", *options])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        document = json.loads(out)
        return code, None if "error" in document else document, err

    return run


def edit(folder, **changes):
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def verdicts(report, style=None):
    return {r["case"]: r["verdict"] for r in report["checks"] if r["runtime"] == "ort" and style in (None, r["style"])}


def test_an_honest_artifact_passes(toy, check):
    code, report, _ = check(toy)
    assert code == 0 and set(verdicts(report).values()) == {"passed"}
    assert any("full set of cases, seed 0" in note for note in report["notes"])


def test_the_quick_set_is_smaller_and_says_so(toy, check):
    code, report, _ = check(toy, "--quick", "--seed", "4")
    assert code == 0 and len(verdicts(report)) < 20
    assert any("quick set of cases, seed 4" in note for note in report["notes"])


def test_a_case_alone_gives_what_it_gave_among_all(toy, check):
    def figures(*options):
        _, report, _ = check(toy, "--seed", "3", *options)
        return next(r["oracle_error"] for r in report["checks"] if r["case"] == "decode-shuffled")

    alone = figures("--case", "decode-shuffled")
    assert alone == figures() and alone > 0


@pytest.mark.parametrize("content", [b"", b"this is no graph", b"\x00" * 64], ids=["empty", "text", "zeros"])
def test_a_file_that_is_not_onnx_is_called_that(toy, check, content):
    (toy / MODEL_NAME).write_bytes(content)
    code, report, err = check(toy, "--ignore-hashes")
    assert (code, report) == (2, None)
    assert ("is not a sound ONNX file: it holds no operators" if content == b"" else "is not an ONNX file") in err


def test_changed_files_are_reported_first_and_nothing_is_run(toy, check):
    with (toy / MODEL_NAME).open("ab") as stream:
        stream.write(b"\0")
    code, report, err = check(toy)
    assert (code, report) == (2, None)
    assert "model.onnx missing or changed" in err and "--ignore-hashes" in err and "Checking" not in err


def test_ignored_hashes_are_noted_and_the_file_is_diagnosed_as_it_is(tmp_path, check):
    honest = write_toy(tmp_path / "honest")
    write_toy(tmp_path / "toy", "onnx", Faults(theta={1: 9000.0}), files=honest.files)
    assert check(tmp_path / "toy")[0] == 2
    code, report, err = check(tmp_path / "toy", "--ignore-hashes")
    assert code == 1 and "missing or changed" in err
    assert "is not what was exported: model.onnx.data missing or changed" in report["notes"][0]
    found = [one for one in report["diagnoses"] if one["runtime"] == "ort"]
    assert found and all(one["layers"] == [1] for one in found)


def test_missing_weights_are_named(toy, check):
    (toy / "model.onnx.data").unlink()
    assert "model.onnx.data missing or changed" in check(toy)[2]
    code, report, err = check(toy, "--ignore-hashes")
    assert (code, report) == (2, None) and "its weights in model.onnx.data, which is not beside it" in err


def test_weights_cut_short_are_reported_with_their_size(toy, check):
    data = (toy / "model.onnx.data").read_bytes()
    (toy / "model.onnx.data").write_bytes(data[: len(data) // 2])
    code, _, err = check(toy, "--ignore-hashes")
    assert code == 2 and "cut short" in err and str(len(data) // 2) in err


def test_a_missing_graph_is_missing(toy, check):
    (toy / MODEL_NAME).unlink()
    code, _, err = check(toy, "--ignore-hashes")
    assert code == 2 and f"There is no file {toy / MODEL_NAME}" in err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layers": "two", "style": "fancy"}, ["layers", "style"]),
        ({"dtype": "float8"}, ["dtype: 'float8'"]),
        ({"max_position": 0}, ["max_position: 0"]),
        ({"layers": 1}, ["layer: 1 is none of the 1 layers"]),
        ({"rotations": []}, ["there is no rotation 'main'"]),
        ({"tolerances": {"logits": 1e9, "rotated": -1}}, ["tolerances.rotated: -1"]),
        ({"outputs": []}, ["at least one result"]),
        ({"schema_version": 99}, ["schema version 99"]),
    ],
)
def test_a_manifest_edited_by_hand_is_refused_with_its_faults(toy, check, changes, says):
    edit(toy, **changes)
    code, report, err = check(toy)
    assert (code, report) == (2, None)
    for part in says:
        assert part in " ".join(err.split())


def test_a_manifest_that_is_no_json_is_refused(toy, check):
    (toy / MANIFEST_NAME).write_text("{ not json")
    code, _, err = check(toy)
    assert code == 2 and "not a valid manifest" in err


def test_a_manifest_that_names_what_the_graph_has_not_is_refused(toy, check):
    sites = json.loads((toy / MANIFEST_NAME).read_text())["sites"]
    sites[0]["output"] = "nowhere"
    edit(toy, sites=sites)
    code, _, err = check(toy)
    assert code == 2 and "nowhere is not a value of the graph" in err


def test_a_manifest_with_other_heads_than_the_graph_fails_with_a_message(toy, check):
    sites = json.loads((toy / MANIFEST_NAME).read_text())["sites"]
    sites[0]["num_heads"] = 3
    edit(toy, sites=sites)
    code, report, _ = check(toy)
    assert code == 1
    messages = {r["message"] for r in report["checks"] if r["case"] == "prefill"}
    assert any("3 heads of 16" in message for message in messages)


def test_a_rule_edited_by_hand_is_found_to_be_another_than_the_graphs(toy, check):
    rotations = json.loads((toy / MANIFEST_NAME).read_text())["rotations"]
    rotations[0]["spec"]["rope_parameters"]["rope_theta"] = 20000.0
    edit(toy, rotations=rotations)
    code, report, _ = check(toy)
    assert code == 1 and report["diagnoses"]


def test_a_rule_that_does_not_exist_is_refused(toy, check):
    rotations = json.loads((toy / MANIFEST_NAME).read_text())["rotations"]
    rotations[0]["spec"]["rope_parameters"]["rope_type"] = "sideways"
    edit(toy, rotations=rotations)
    code, _, err = check(toy)
    assert code == 2 and "sideways" in err


def spoil_hash(folder):
    with (folder / MODEL_NAME).open("ab") as stream:
        stream.write(b"\0")


def spoil_graph(folder):
    (folder / MODEL_NAME).write_bytes(b"no graph")


def spoil_manifest(folder):
    (folder / MANIFEST_NAME).write_text("{}")


def spoil_weights(folder):
    (folder / "model.onnx.data").unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "code", "says"),
    [
        (spoil_hash, (), "RD606", "missing or changed"),
        (spoil_graph, ("--ignore-hashes",), None, "not an ONNX file"),
        (spoil_manifest, (), None, "not a valid manifest"),
        (spoil_weights, ("--ignore-hashes",), None, "weights"),
    ],
)
def test_one_bad_artifact_of_two_fails_and_the_other_is_checked(tmp_path, check, spoil, options, code, says):
    write_toy(tmp_path / "all" / "onnx")
    shutil.copytree(tmp_path / "all" / "onnx", tmp_path / "all" / "bad")
    write_toy(tmp_path / "all" / "tables", "tables")
    spoil(tmp_path / "all" / "bad")
    exit_code, report, _ = check(tmp_path / "all", *options)
    assert exit_code == 1
    failed = [r for r in report["checks"] if r["case"] == "open"]
    assert len(failed) == 1 and says in failed[0]["message"]
    assert set(verdicts(report, "tables").values()) == {"passed"} and len(verdicts(report, "tables")) > 20
    if code:
        assert [one["code"] for one in report["diagnoses"]] == [code]


@pytest.mark.parametrize("how", swept(["SIGSEGV", "SIGKILL"], ()))
def test_a_runtime_that_crashes_fails_its_cases_by_name_and_the_others_run(toy, check, monkeypatch, how):
    deadly = "tests.runtimes.deadly:open_deadly"
    arguments = {"folder": str(toy), "how": how}
    monkeypatch.setattr(check_runtime, "_open", lambda *_: open_isolated("ort", deadly, arguments))
    code, report, _ = check(toy)
    assert code == 1
    failed = {case for case, verdict in verdicts(report).items() if verdict == "failed"}
    assert {"prefill-batch", "shuffled", "decode-batch"} <= failed and "decode" not in failed
    (found,) = report["diagnoses"]
    assert found["code"] == "RD902" and set(found["cases"]) == failed and how in found["explanation"]


def test_a_runtime_that_dies_of_being_opened_is_a_failed_case(toy, check, monkeypatch):
    dead = "tests.runtimes.deadly:open_dead"
    monkeypatch.setattr(check_runtime, "_open", lambda *_: open_isolated("ort", dead, {"how": "SIGSEGV"}))
    code, report, _ = check(toy)
    assert code == 1 and verdicts(report) == {"open": "failed"}
    assert [one["code"] for one in report["diagnoses"]] == ["RD902"]


def test_a_case_that_is_another_styles_runs_there_alone(tmp_path, check):
    write_toy(tmp_path / "all" / "onnx")
    write_toy(tmp_path / "all" / "contrib", "contrib")
    code, report, _ = check(tmp_path / "all", "--case", "refuses-left-padding")
    assert code == 0 and {r["style"] for r in report["checks"]} == {"contrib"}


def test_an_unknown_case_is_refused_with_the_list(toy, check):
    code, _, err = check(toy, "--case", "sideways")
    assert code == 2 and "There is no case sideways" in err and "decode-shuffled" in err
