import json

import pytest

from rope_deploy.cli.main import main
from tests.runtimes.toy import write_toy
from tests.trt.graphs import PLAIN, UNSUPPORTED, needs_rtx, write_onnx


@pytest.fixture
def toy(tmp_path):
    write_toy(tmp_path / "toy", "tables")
    return str(tmp_path / "toy")


@needs_rtx
def test_an_artifact_is_built_and_summed_up(toy, tmp_path, capsys):
    target = str(tmp_path / "toy.engine")
    assert main(["build", toy, "-o", target, "--flavor", "rtx", "--compute-capability", "8.0,8.9"]) == 0
    out, err = capsys.readouterr()
    assert "compute capability 8.0, 8.9" in out
    assert "profiles: prefill, decode" in out
    assert "Building engine" in err.splitlines()


@needs_rtx
def test_auto_says_which_of_several_styles_was_built_and_why(tmp_path, capsys):
    for style in ("tables", "onnx"):
        write_toy(tmp_path / "all" / style, style)
    arguments = ["build", str(tmp_path / "all"), "-o", str(tmp_path / "e"), "--flavor", "rtx", "--style"]
    assert main([*arguments, "auto"]) == 0
    assert "style onnx: RotaryEmbedding becomes" in capsys.readouterr().out
    assert main([*arguments, "tables", "--force"]) == 0
    assert "style tables: " in capsys.readouterr().out
    assert main([*arguments, "plugin", "--force"]) == 2
    assert "It has: onnx, tables." in capsys.readouterr().err


def test_several_styles_are_refused_without_a_choice_and_the_message_says_how_to_choose(tmp_path, capsys):
    write_toy(tmp_path / "all" / "tables", "tables")
    assert main(["build", str(tmp_path / "all"), "-o", str(tmp_path / "e"), "--flavor", "rtx"]) == 2
    assert "It holds some: tables.\nGive --style auto" in capsys.readouterr().err


@pytest.mark.parametrize("style", ["auto", "onnx"])
def test_a_style_of_what_is_not_there_ends_with_exit_code_2(tmp_path, style, capsys):
    arguments = ["build", str(tmp_path / "absent"), "-o", str(tmp_path / "e"), "--flavor", "rtx", "--style", style]
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_json_is_all_there_is_on_standard_output(toy, tmp_path, capsys):
    options = ["--compute-capability", "8.0", "--compute-capability", "8.9", "--profile", "batch=1:1:2", "--json"]
    assert main(["build", toy, "-o", str(tmp_path / "toy.engine"), "--flavor", "rtx", *options]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["capabilities"] == ["8.0", "8.9"]
    assert record["bytes"] == (tmp_path / "toy.engine").stat().st_size


def test_profile_faults_are_listed_with_exit_code_2(toy, tmp_path, capsys):
    options = ["--profile", "batch=2:1", "--profile", "ids=1", "--json"]
    assert main(["build", toy, "-o", str(tmp_path / "toy.engine"), "--flavor", "rtx", *options]) == 2
    out, err = capsys.readouterr()
    assert len(json.loads(out)["error"]["faults"]) == 2
    assert "'ids=1'" in err
    assert "Traceback" not in err


@needs_rtx
def test_a_graph_the_vendor_refuses_ends_with_exit_code_4(tmp_path, capsys):
    model = write_onnx(tmp_path / "g.onnx", UNSUPPORTED)
    assert main(["build", str(model), "-o", str(tmp_path / "e"), "--flavor", "rtx", "--profile", "batch=1"]) == 4
    assert "Bernoulli 'culprit'" in capsys.readouterr().err


def test_a_missing_flavour_ends_with_exit_code_3(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rope_deploy.trt.flavors.installed_version", lambda flavor: None)
    model = write_onnx(tmp_path / "g.onnx", PLAIN)
    options = ["--profile", "batch=1", "--profile", "width=1"]
    assert main(["build", str(model), "-o", str(tmp_path / "e"), "--flavor", "tensorrt", *options]) == 3
    assert "pip install tensorrt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["absent", "-o", "e"], ["absent"], ["absent", "-o", "e", "--flavor", "trt"], ["absent", "-o", "e", "--x"]],
)
def test_wrong_usage_ends_with_exit_code_2(tmp_path, monkeypatch, arguments, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["build", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_ctrl_c_ends_with_exit_code_130_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(progress):
        raise KeyboardInterrupt

    monkeypatch.setattr("rope_deploy.cli.build._print_phase", interrupt)
    model = write_onnx(tmp_path / "g.onnx", PLAIN)
    options = ["--profile", "batch=1", "--profile", "width=1"]
    assert main(["build", str(model), "-o", str(tmp_path / "e"), "--flavor", "rtx", *options]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]
