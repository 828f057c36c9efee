"""`bench` times everything in one go, and can be held against an earlier run by ratios."""

from dataclasses import replace

import pytest

from rope_deploy import api
from rope_deploy.bench import measure
from rope_deploy.cli.main import main
from rope_deploy.errors import ConfigError, EnvironmentMissing, UsageError
from rope_deploy.runs import bench_contestants

QUICK = {"prompt": 8, "new": 2, "rounds": 2, "threads": 1}
# torch 2.13 imports torch.jit.script_method, which it deprecates itself, along with its compiler.
OWN_WARNINGS = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
COMPARED = {**QUICK, "rounds": 5, "max_slowdown": 50}


@pytest.mark.slow
def test_every_artifact_and_pytorch_are_timed_in_one_run(artifacts):
    report = api.bench(artifacts, runtimes=("torch", "ort"), **{**QUICK, "prompt": (8, 16)})
    labels = {(record.runtime, record.style) for record in report.latencies}
    assert labels == {("torch", "")} | {("ort", style) for style in ("tables", "onnx", "contrib", "plugin")}
    assert {record.workload for record in report.latencies} == {"prefill 8", "prefill 16", "decode @8", "decode @16"}
    assert all(record.median_ms > 0 and record.ratio > 0 for record in report.latencies)
    assert {record.reference for record in report.latencies} == {"torch"}
    assert [one.verdict for one in report.contestants] == ["passed"] * 5
    assert report.verdict == "skipped"  # nothing was judged


@pytest.mark.slow
def test_a_run_is_held_against_an_earlier_one(artifacts, tmp_path):
    api.write_report(api.bench(artifacts, **COMPARED), tmp_path / "first.json")
    again = api.bench(artifacts, baseline=tmp_path / "first.json", **COMPARED)
    assert len(again.gates) == 6  # three contestants besides the one ratios refer to, two workloads
    assert again.verdict == "passed"
    strict = api.bench(artifacts, baseline=tmp_path / "first.json", **{**COMPARED, "max_slowdown": 1e-3})
    assert {gate.verdict for gate in strict.gates} == {"failed"} and strict.verdict == "failed"


@pytest.mark.parametrize("content", [None, "not json", "{}", '{"schema_version": 0}'])
def test_a_baseline_that_is_none_is_refused_before_anything_is_timed(artifacts, tmp_path, content):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises((UsageError, ConfigError), match="baseline") as caught:
        api.bench(artifacts, baseline=path, **COMPARED, progress=lambda step: pytest.fail(step))
    assert "--report" in caught.value.todo and caught.value.exit_code == 2


def test_too_few_rounds_for_a_baseline_are_refused(artifacts, tmp_path):
    with pytest.raises(UsageError, match="too few"):
        api.bench(artifacts, baseline=tmp_path / "any.json", **QUICK)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"runtimes": ("ort", "tensorflow")}, "Unknown runtime tensorflow"),
        ({"runtimes": ()}, "No runtime"),
        ({"prompt": (8, 8)}, "twice"),
        ({"prompt": (8, 4096)}, "do not fit"),
        ({"max_slowdown": 0}, "ratio"),
    ],
)
def test_what_cannot_be_timed_is_refused(artifacts, options, says):
    with pytest.raises(UsageError, match=says):
        api.bench(artifacts, **{**QUICK, **options})


@pytest.fixture
def no_compiler(monkeypatch):
    """torch.compile as on a machine without a C++ compiler."""
    import torch._inductor.config as inductor
    import torch._inductor.cpp_builder as builder

    monkeypatch.setattr(inductor, "force_disable_caches", True)
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    for name in ("get_cpp_compiler", "get_compiler_version_info"):
        if clear := getattr(getattr(builder, name, None), "cache_clear", None):
            clear()
    yield
    for name in ("get_cpp_compiler", "get_compiler_version_info"):
        if clear := getattr(getattr(builder, name, None), "cache_clear", None):
            clear()


@OWN_WARNINGS
def test_a_compile_that_fails_leaves_the_others_timed_and_says_why(artifacts, no_compiler):
    report = api.bench(artifacts / "onnx", runtimes=("torch-compile", "ort"), **QUICK)
    compiled, ort = report.contestants
    assert (compiled.runtime, compiled.verdict, ort.verdict) == ("torch-compile", "skipped", "passed")
    assert "torch.compile failed" in compiled.message
    assert {(record.runtime, record.reference) for record in report.latencies} == {("ort", "ort/onnx")}


def test_a_missing_engine_runtime_is_left_out_but_not_alone(artifacts, tmp_path, monkeypatch):
    def no_gpu(entrant, load):
        if entrant.runtime == "trt":
            raise EnvironmentMissing("There is no GPU here.")

    monkeypatch.setattr("rope_deploy.runs.bench_contestants._rehearse", no_gpu)
    folder, engine = artifacts / "tables", tmp_path / "any.engine"
    report = api.bench(folder, runtimes=("ort", "trt"), engine=engine, **QUICK)
    assert [(one.runtime, one.verdict) for one in report.contestants] == [("ort", "passed"), ("trt", "skipped")]
    assert report.contestants[1].message == "There is no GPU here."
    with pytest.raises(EnvironmentMissing):
        api.bench(folder, runtimes=("trt",), engine=engine, **QUICK)


def test_an_engine_needs_the_one_artifact_it_was_built_from(artifacts, tmp_path):
    with pytest.raises(UsageError, match="one artifact"):
        api.bench(artifacts, runtimes=("trt",), engine=tmp_path / "any.engine", **QUICK)


@pytest.mark.slow
def test_memory_and_the_share_of_the_rotation_are_measured_in_processes_of_their_own(artifacts):
    report = api.bench(artifacts, profile=True, **QUICK)
    shares = {(r.style, r.workload): r.rotation_share for r in report.latencies}
    for one in report.contestants:
        assert one.peak_bytes >= one.resident_bytes > one.before_bytes > 10e6
        assert one.arena_bytes > 0
        prefill = shares[one.style, "prefill 8"]
        if one.style == "contrib":
            assert prefill is None and "inside the fused attention" in one.note
        else:
            assert 0 < prefill < 0.9 and not one.note


def test_a_model_handed_over_loaded_has_no_memory_figure_and_says_so(artifacts, source):
    loaded = api.load(str(source))
    report = api.bench(artifacts / "onnx", runtimes=("torch",), model=replace(loaded), profile=True, **QUICK)
    (torch,) = report.contestants
    assert torch.peak_bytes is None and "Not measured" in torch.note


@pytest.mark.parametrize("given", ["0", "x", "8,-1", "1.5"])
def test_a_length_that_is_none_is_wrong_usage(artifacts, given, capfd):
    assert main(["bench", str(artifacts / "onnx"), "--prompt", given]) == 2
    assert "whole numbers" in capfd.readouterr().err


def test_lengths_may_be_given_by_commas_and_by_repeating(artifacts, capfd):
    arguments = ["bench", str(artifacts / "onnx"), "--prompt", "4,8", "--prompt", "12", "--new", "0", "--rounds", "1"]
    assert main([*arguments, "--json"]) == 0
    assert [f"prefill {n}" in capfd.readouterr().out for n in (4,)] == [True]


@pytest.mark.parametrize("option", ["--max-slowdown=1.1", "--other-machine=skip", "--unsettled=fail"])
def test_what_judges_by_a_baseline_wants_one(artifacts, option, capfd):
    assert main(["bench", str(artifacts / "onnx"), option]) == 2
    assert f"{option.split('=')[0]} without --baseline" in capfd.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_timed(artifacts, capfd):
    assert main(["bench", str(artifacts / "onnx"), "--report", "/proc/nowhere/x.json"]) == 3
    reported = capfd.readouterr()
    assert "Could not write /proc/nowhere/x.json" in reported.err and "space" not in reported.err
    assert "Timing" not in reported.err + reported.out


def test_the_load_of_other_processes_is_noted_with_the_times(artifacts, monkeypatch):
    def loud(*args, **kwargs):
        return tuple(replace(record, waiting=0.5) for record in measure(*args, **kwargs))

    monkeypatch.setattr(bench_contestants, "measure", loud)
    report = api.bench(artifacts, prompt=4, new=0, rounds=1)
    assert report.notes == ("Other processes were in the way of prefill 4: on a quiet machine ratios are others.",)


@pytest.mark.parametrize(
    ("option", "says"), [("--max-slowdown=nan", "cannot be below nan"), ("--threads=100000", "100000 threads")]
)
def test_a_number_that_makes_no_gate_or_no_machine_is_refused(artifacts, tmp_path, option, says, capfd):
    arguments = ["bench", str(artifacts / "onnx"), "--baseline", str(tmp_path / "b.json")]
    assert main([*arguments, option]) == 2
    assert says in capfd.readouterr().err
