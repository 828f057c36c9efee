"""What the comparison of export times times, and what it makes of a contestant that fails."""

import json

import onnx
import pytest

from benchmarks import export_families, tabulate
from benchmarks.export_families import OURS, TRANSFORMERS


def test_ratios_are_medians_over_rounds_and_not_of_medians():
    spent = {OURS: [(1.0, 1.0), (9.0, 3.0), (2.0, 2.0)], TRANSFORMERS: [(2.0, 4.0), (3.0, 6.0), (8.0, 2.0)]}
    row = export_families.summarise({"spent": spent, "failed": {}})
    assert (row[OURS]["export_s"], row[TRANSFORMERS]["export_s"]) == (2.0, 3.0)
    assert (row["export_s_ratio"], row["export_cpu_s_ratio"]) == (0.5, 0.5)


@pytest.fixture
def turns(monkeypatch):
    """Contestants that export nothing; theirs fails the second time. Returns who was called, in turn."""
    called = []

    def theirs(model, folder):
        def export():
            called.append(TRANSFORMERS)
            if called.count(TRANSFORMERS) == 2:
                raise RuntimeError("wrapped") from ValueError("what it was\nand more")

        return export

    monkeypatch.setattr(export_families, "model_of", lambda name, hf: object())
    contestants = {OURS: lambda model, folder: lambda: called.append(OURS), TRANSFORMERS: theirs}
    monkeypatch.setattr(export_families, "CONTESTANTS", contestants)
    return called


@pytest.mark.slow
def test_a_contestant_that_fails_is_out_with_its_reason_and_the_other_goes_on(turns, tmp_path):
    measured = export_families.measure("any", 3, tmp_path)
    assert measured["failed"] == {TRANSFORMERS: "ValueError: what it was"}
    assert (turns.count(OURS), turns.count(TRANSFORMERS)) == (4, 2)
    assert len(measured["spent"][OURS]) == 3, "the first round is not counted"
    row = export_families.summarise(measured)
    assert "export_s_ratio" not in row
    assert TRANSFORMERS not in row


@pytest.mark.slow
def test_both_graphs_take_a_past_and_any_number_of_tokens(tmp_path):
    export_families.by_us(export_families.model_of("llama@1", tmp_path), tmp_path / "ours")()
    ours = _axes(tmp_path / "ours" / "model.onnx")
    assert ours["input_ids"] == 2
    assert sum(name.startswith("past_key_values") for name in ours) == 2
    export_families.by_transformers(export_families.model_of("llama@1", tmp_path), tmp_path / "theirs")()
    theirs = _axes(tmp_path / "theirs" / "model.onnx")
    assert theirs["input_ids"] == 2
    assert sum("past_key_values" in name for name in theirs) == 2


def _axes(path):
    """By input, how many of its axes have no fixed size."""
    graph = onnx.load(path, load_external_data=False).graph
    return {i.name: sum(bool(d.dim_param) for d in i.type.tensor_type.shape.dim) for i in graph.input}


def test_the_page_says_met_not_met_and_refused():
    row = {
        OURS: {"export_s": 1.0, "export_cpu_s": 1.0},
        TRANSFORMERS: {"export_s": 2.0, "export_cpu_s": 2.0},
        "export_s_ratio": 0.5,
        "export_cpu_s_ratio": 1.4,
        "failed": {},
        "cores_used_by_others": 0.5,
        "rounds": 3,
    }
    failed = {OURS: row[OURS], "failed": {TRANSFORMERS: "ValueError: no"}, "cores_used_by_others": 1.5, "rounds": 3}
    found = {"style": "onnx", "limit": 1.3, "models": {"slow": row, "odd": failed}}
    (target,) = tabulate.targets({"export_families": found})
    assert not target.met
    text = "\n".join(tabulate._export_families_tables(json.loads(json.dumps(found))))
    assert "| slow | 1 | 1 | 2 | 2 | 0.500 | 1.400 | 0.5 | 3 |" in text
    assert "| odd | 1 | 1 | refused | refused |  |  | 1.5 | 3 |" in text
    assert "Refused, odd by transformers.exporters: ValueError: no" in text


def test_what_is_measured_by_name_joins_what_is_there(tmp_path, monkeypatch):
    spent = {OURS: [(1.0, 1.0)], TRANSFORMERS: [(2.0, 2.0)]}
    monkeypatch.setattr(export_families, "in_process", lambda *_: {"spent": spent, "failed": {}})
    monkeypatch.setattr(export_families.common, "model_folder", lambda work: work)
    monkeypatch.setattr(export_families, "MODELS", ("a", "b"))
    place = ["--work", str(tmp_path / "work"), "--results", str(tmp_path)]
    for names, found in (([], ["a", "b"]), (["c"], ["a", "b", "c"]), ([], ["a", "b"])):
        export_families.main([*place, *names], standalone_mode=False)
        assert list(json.loads((tmp_path / "export_families.json").read_text())["models"]) == found
