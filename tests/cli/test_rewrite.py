import json

import onnx_ir as ir
import pytest

from rope_deploy.cli.main import main
from tests.graph.graphs import ROWS, spelled, with_tokens

CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_attention_heads": 2,
    "max_position_embeddings": ROWS,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10.0},
}


@pytest.fixture
def source(tmp_path):
    ir.save(with_tokens(spelled("rotate_half")), tmp_path / "in.onnx")
    return str(tmp_path / "in.onnx")


@pytest.fixture
def config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path / "config.json")


def test_a_file_is_rewritten_and_summed_up(source, config, tmp_path, capsys):
    assert main(["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "onnx", "--config", config]) == 0
    out, err = capsys.readouterr()
    assert "1 rotations from 1 table(s), opset 23" in out
    assert "Note:" not in err, "the tables follow the configuration"
    assert "RotaryEmbedding" in [node.op_type for node in ir.load(tmp_path / "out.onnx").graph]


def test_a_configuration_that_says_otherwise_is_a_note(source, tmp_path, capsys):
    other = {**CONFIG, "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}
    (tmp_path / "config.json").write_text(json.dumps(other))
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables", "--config", str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert "differ from the rule in its configuration" in finding


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


def test_an_existing_file_needs_force(source, config, tmp_path, capsys):
    arguments = ["rewrite", source, "-o", str(tmp_path / "out.onnx"), "--style", "tables", "--config", config]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert main([*arguments, "--force"]) == 0
