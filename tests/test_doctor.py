from dataclasses import replace

import pytest

from rope_deploy import doctor
from rope_deploy.doctor import Examination, Probe, examine, examine_all, healthy
from rope_deploy.trt.plugin import toolchain

PROBE = Probe("thing", "json", "for the test", "pip install thing", "print('it goes')")
SAID = {probe.name: probe for probe in doctor.PROBES}


def test_what_works_says_its_last_line_and_asks_for_nothing():
    found = examine(replace(PROBE, code="print('noise')\nprint('it goes')"))
    assert (found.state, found.detail, found.todo) == ("works", "it goes", "")


def test_what_is_absent_names_the_command_that_brings_it():
    found = examine(replace(PROBE, module="no_such_module_anywhere"))
    assert (found.state, found.todo) == ("missing", "Run `pip install thing`.")


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("raise ImportError('libfoo.so: no such file')", "failed: ImportError: libfoo.so: no such file"),
        ("import os; os.abort()", "ended by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("pass", "failed"),
        ("assert 1 == 2, 'it rotates wrongly'", "failed: AssertionError: it rotates wrongly"),
    ],
)
def test_what_is_installed_but_fails_is_broken_and_says_how(code, detail):
    found = examine(replace(PROBE, code=code))
    assert (found.state, found.detail) == ("broken", detail)
    assert found.todo == "Install it again: `pip install --force-reinstall thing`."


def test_what_hangs_is_broken():
    found = examine(replace(PROBE, code="import time; time.sleep(60)"), patience=0.5)
    assert (found.state, found.detail) == ("broken", "did not answer within 0.5 s")


def test_what_needs_a_gpu_is_blocked_without_one(monkeypatch):
    monkeypatch.setattr(doctor, "gpus", lambda: ())
    found = examine(replace(PROBE, needs_gpu=True, code="raise AssertionError('it ran')"))
    assert (found.state, found.detail) == ("blocked", "no NVIDIA GPU is visible here")


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_real_probe_works_here(name):
    found = examine(SAID[name])
    assert found.state == "works", found
    assert found.version[0].isdigit()


def test_runtime_probe_notices_a_wrong_rotation():
    wrong = SAID["onnxruntime"].code.replace("concatenate([c - s, c + s], -1)", "concatenate([c + s, c - s], -1)")
    assert wrong != SAID["onnxruntime"].code
    assert examine(replace(SAID["onnxruntime"], code=wrong)).detail == "failed: AssertionError: it rotates wrongly"


def test_rtx_probe_creates_a_builder_where_it_is_installed():
    found = examine(SAID["tensorrt-rtx"])
    if found.state == "missing":
        pytest.skip("tensorrt-rtx is not installed")
    assert (found.state, found.detail) == ("works", "a builder can be created")


def test_diagnosis_covers_everything_in_order_and_survives_its_absence(monkeypatch):
    absent = tuple(replace(probe, module="no_such_module_anywhere") for probe in doctor.PROBES)
    monkeypatch.setattr(doctor, "PROBES", absent)
    monkeypatch.setattr(doctor, "gpus", lambda: ())
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    heard = []
    found = examine_all(heard.append)
    names = [examination.name for examination in found]
    tools = ["nvcc", "cmake", "make", "c++", "tensorrt-headers"]
    assert names == ["python", "gpu", *tools, *(probe.name for probe in absent)]
    assert tuple(heard) == found
    assert not healthy(found)
    for examination in found:
        assert examination.state == "works" or examination.todo, examination


def test_root_of_tensorrt_without_headers_is_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path))
    monkeypatch.setattr(doctor, "PROBES", ())
    (headers,) = (examination for examination in examine_all() if examination.name == "tensorrt-headers")
    assert headers.state == "broken" and str(tmp_path) in headers.detail and "TENSORRT_ROOT" in headers.todo


def test_gpu_is_named_with_its_capability(monkeypatch):
    from rope_deploy.trt import Gpu

    monkeypatch.setattr(doctor, "PROBES", ())
    monkeypatch.setattr(doctor, "gpus", lambda: (Gpu("a card", "8.9"),))
    (gpu,) = (examination for examination in examine_all() if examination.name == "gpu")
    assert (gpu.state, gpu.detail) == ("works", "a card (capability 8.9)")


def test_compiler_that_answers_nonsense_is_broken(tmp_path, monkeypatch):
    fake = tmp_path / "nvcc"
    fake.write_text("#!/bin/sh\necho hello\n")
    fake.chmod(0o755)
    for module in (doctor, toolchain):
        monkeypatch.setattr(module, "possible_paths", lambda tool: iter([str(fake)]))
    monkeypatch.setattr(doctor, "PROBES", ())
    (nvcc,) = (examination for examination in examine_all() if examination.name == "nvcc")
    assert nvcc.state == "broken" and str(fake) in nvcc.detail


@pytest.mark.parametrize(
    ("state", "required", "fine"),
    [
        ("works", True, True),
        ("missing", True, False),
        ("broken", True, False),
        ("missing", False, True),
        ("blocked", False, True),
        ("broken", False, False),
    ],
)
def test_health_needs_what_is_required_and_nothing_broken(state, required, fine):
    assert healthy((Examination("thing", "for the test", state, required),)) is fine
