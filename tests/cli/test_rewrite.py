import json

import onnx_ir as ir
import pytest

from rope_deploy.cli.main import main
from tests.graph.graphs import ROWS, rotation_graph, with_tokens

CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_attention_heads": 2,
    "max_position_embeddings": ROWS,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10.0},
}
ONE_SIDED = "In layer 0 the file rotates q and no k of their own; it is written so."


@pytest.fixture
def source(tmp_path):
    ir.save(with_tokens(rotation_graph("rotate_half")), tmp_path / "in.onnx")
    return str(tmp_path / "in.onnx")


@pytest.fixture
def config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path / "config.json")


def test_a_file_is_rewritten_and_summed_up(source, config, tmp_path, capsys):
    assert main(["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "onnx", "--config", config]) == 0
    out, err = capsys.readouterr()
    assert "1 site, 1 table, opset 23" in out
    assert [line for line in err.splitlines() if "Note:" in line] == [f"Note: {ONE_SIDED}"], "the tables are right"
    assert "RotaryEmbedding" in [node.op_type for node in ir.load(tmp_path / "out.onnx").graph]


def test_a_configuration_that_says_otherwise_stops_it_unless_that_is_accepted(source, tmp_path, capsys):
    other = {**CONFIG, "rope_parameters": {"rope_type": "linear", "rope_theta": 10.0, "factor": 4.0}}
    (tmp_path / "config.json").write_text(json.dumps(other))
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables", "--config", str(tmp_path)]
    assert main([*arguments, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["exit_code"]) == ("MistakeFound", 2)
    assert "RD302, the scaling rule was dropped" in error["exists"]
    assert "--accept RD302" in error["todo"]
    assert not (tmp_path / "out.onnx").exists()
    assert main([*arguments, "--accept", "RD301"]) == 2, "another mistake was accepted"
    capsys.readouterr()
    assert main([*arguments, "--accept", "RD302", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    finding, one_sided = document["findings"]
    assert one_sided == ONE_SIDED
    assert finding.startswith("rope_0: RD302") and finding.endswith("Accepted.")


def test_a_code_that_there_is_not_is_refused(source, tmp_path, capsys):
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables", "--max-position", "16"]
    assert main([*arguments, "--accept", "RD999"]) == 2
    assert "There is no code RD999" in capsys.readouterr().err


def test_the_result_is_run_beside_the_original_unless_declined(source, config, tmp_path, capsys):
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "onnx", "--config", config]
    assert main(arguments) == 0
    assert "Run beside the original in ONNX Runtime" in capsys.readouterr().out
    assert main([*arguments, "--force", "--no-run"]) == 0
    assert "Run beside" not in capsys.readouterr().out


def test_angles_in_fp64_need_a_configuration(source, config, tmp_path, capsys):
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables", "--angles", "float64"]
    assert main([*arguments, "--max-position", "16"]) == 2
    assert "--config" in capsys.readouterr().err
    assert main([*arguments, "--config", config]) == 0


def test_a_length_must_come_from_somewhere(source, tmp_path, capsys):
    assert main(["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables"]) == 2
    assert "--max-position" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", None])
def test_a_faulty_configuration_is_named(source, tmp_path, capsys, text):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables", "--config", str(path)]
    assert main(arguments) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.slow
def test_an_existing_file_needs_force(source, config, tmp_path, capsys):
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables", "--config", config]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert main([*arguments, "--force"]) == 0
