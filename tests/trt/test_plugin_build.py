"""`rope-deploy plugin`: what it finds, what it says is missing, and how a compiler's failure ends."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from rope_deploy import __version__
from rope_deploy.cli import main as entry
from rope_deploy.errors import EnvironmentMissing, UsageError
from rope_deploy.trt.plugin import compile_library, find_tools, toolchain

ROOT = Path(__file__).parent.parent.parent


def tool(folder: Path, name: str, says: str = "version 99.1", body: str = "exit 0") -> Path:
    """An executable that says its version, and otherwise does `body`."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{says}"; exit 0; fi\n{body}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any of the tools; the folder returned is its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    monkeypatch.delenv("TENSORRT_ROOT", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(toolchain, "_package_folders", lambda name: [])
    monkeypatch.setattr(toolchain, "SYSTEM_HEADERS", ())
    return folder


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    folder = tmp_path / "tensorrt" / "include"
    folder.mkdir(parents=True)
    (folder / "NvInfer.h").touch()
    lines = "#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MINOR_ENTERPRISE 14\n#define TRT_PATCH_ENTERPRISE 1\n"
    (folder / "NvInferVersion.h").write_text(lines + "#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE\n")
    return folder.parent


@pytest.fixture
def complete(bare: Path, headers: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All tools, none of which does anything."""
    tool(bare, "nvcc", "Cuda compilation tools, release 13.0, V13.0.88", "echo sm_80 sm_90a sm_120")
    for name in ("cmake", "make", "c++"):
        tool(bare, name)
    monkeypatch.setenv("TENSORRT_ROOT", str(headers))
    return bare


def run(*arguments: object) -> int:
    return entry.main(["plugin", *map(str, arguments)])


def test_every_missing_piece_is_named_with_the_command_that_installs_it(bare: Path) -> None:
    with pytest.raises(EnvironmentMissing) as caught:
        find_tools()
    for name, install in [
        ("nvcc", "pip install nvidia-cuda-nvcc nvidia-cuda-cccl"),
        ("cmake", "pip install cmake"),
        ("make", "pip install ninja"),
        ("c++", "apt install g++"),
        ("tensorrt-headers", "pip install --no-deps kernel-lens"),
    ]:
        assert any(name in line and f"`{install}`" in line for line in caught.value.asked.splitlines())


def test_only_what_is_missing_is_named(complete: Path) -> None:
    (complete / "cmake").unlink()
    with pytest.raises(EnvironmentMissing) as caught:
        find_tools()
    assert "cmake" in caught.value.asked and "g++" not in caught.value.asked and "nvcc 13.0.88" in caught.value.exists


def test_a_missing_piece_ends_the_command_with_3(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("build", "-o", tmp_path / "lib.so") == 3
    assert "pip install --no-deps kernel-lens" in capsys.readouterr().err
    assert not (tmp_path / "lib.so").exists()


def test_everything_is_found_and_dated(complete: Path, headers: Path) -> None:
    tools = find_tools()
    assert (tools.nvcc.version, tools.cmake.version, tools.compiler.version) == ("13.0.88", "99.1", "99.1")
    assert (tools.headers.path, tools.headers.version) == (str(headers / "include"), "10.14.1")


def test_the_compiler_of_the_wheels_is_found_off_the_path(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "site-packages" / "nvidia"
    (wheels / "cu13" / "bin").mkdir(parents=True)
    shutil.move(complete / "nvcc", wheels / "cu13" / "bin" / "nvcc")
    monkeypatch.setattr(toolchain, "_package_folders", lambda name: [wheels] if name == "nvidia" else [])
    assert find_tools().nvcc.path == str(wheels / "cu13" / "bin" / "nvcc")


def test_tools_of_an_environment_that_is_not_active_are_found(complete: Path, tmp_path: Path, monkeypatch) -> None:
    scripts = tmp_path / "venv" / "bin"
    scripts.mkdir(parents=True)
    shutil.move(complete / "cmake", scripts / "cmake")
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    assert find_tools().cmake.path == str(scripts / "cmake")


def test_the_headers_of_the_python_package_serve(complete: Path, headers: Path, monkeypatch) -> None:
    monkeypatch.delenv("TENSORRT_ROOT")
    package = headers.parent / "kernel_lens"
    (package / "include").mkdir(parents=True)
    (headers / "include").rename(package / "include" / "tensorrt")
    monkeypatch.setattr(toolchain, "_package_folders", lambda name: [package] if name == "kernel_lens" else [])
    assert find_tools().headers.path == str(package / "include" / "tensorrt")


def test_a_place_that_is_named_and_has_no_headers_is_an_error_not_a_hint(complete: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no NvInfer"):
        find_tools(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("8.0", "80-real"),
        ("80", "80-real"),
        ("sm_80", "80-real"),
        ("120", "120-real"),
        ("12.0", "120-real"),
        ("90a", "90a-real"),
        ("120-virtual", "120-virtual"),
    ],
)
def test_an_architecture_may_be_written_in_several_ways(text: str, named: str) -> None:
    assert compile_library._architecture(text) == named


@pytest.mark.parametrize("text", ["ada", "8", "", "8.0.1", "-80", "80-reel"])
def test_what_names_no_architecture_is_wrong_usage(text: str, tmp_path: Path, complete: Path) -> None:
    assert run("build", "--arch", text, "-o", tmp_path / "lib.so") == 2


def test_an_architecture_that_nvcc_does_not_know_is_wrong_usage(
    complete: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("build", "--arch", "8.0,7.0", "-o", tmp_path / "lib.so") == 2
    said = capsys.readouterr().err
    assert "cannot compile for 70-real" in said and "80, 90a, 120" in said


def test_an_existing_library_is_replaced_only_when_asked(complete: Path, tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_text("mine")
    assert run("build", "-o", tmp_path / "lib.so") == 2
    assert (tmp_path / "lib.so").read_text() == "mine"


@pytest.mark.parametrize("step", ["-S", "--build"])
def test_a_compilers_failure_ends_with_4_and_its_last_lines(
    complete: Path, tmp_path: Path, capsys: pytest.CaptureFixture, step: str
) -> None:
    noise = "; ".join(["echo noise"] * 50)
    tool(
        complete, "cmake", body=f'if [ "$1" = {step} ]; then {noise}; echo "rope.cu: error: no such thing"; exit 1; fi'
    )
    assert run("build", "-o", tmp_path / "out" / "lib.so") == 4
    said = capsys.readouterr().err
    assert "rope.cu: error: no such thing" in said and said.count("noise") < 25
    assert not (tmp_path / "out").exists()


def test_other_tools_or_targets_do_not_share_a_build_folder(complete: Path, tmp_path: Path) -> None:
    tool(complete, "cmake", body='echo "$@" >> "$0.said"; exit 0')
    folders = set()
    for arch in ("8.0", "12.0"):
        run("build", "--arch", arch, "--build-dir", tmp_path / "kept", "-o", tmp_path / "lib.so")
        folders = set((tmp_path / "kept").iterdir())
    said = (complete / "cmake.said").read_text()
    assert len(folders) == 2 and all(f"-B {folder}" in said for folder in folders)
    assert "-DCMAKE_CUDA_ARCHITECTURES=80-real" in said and f"-DROPE_DEPLOY_VERSION={__version__}" in said


def test_the_source_of_an_installed_package_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compile_library.find_source() == ROOT / "plugins"
    package = tmp_path / "rope_deploy"
    (package / "_plugins").mkdir(parents=True)
    monkeypatch.setattr(compile_library.rope_deploy, "__file__", str(package / "__init__.py"))
    with pytest.raises(EnvironmentMissing, match="source is not here"):
        compile_library.find_source()
    (package / "_plugins" / "CMakeLists.txt").touch()
    assert compile_library.find_source() == package / "_plugins"


def test_the_wheel_carries_every_source_file_that_cmake_compiles() -> None:
    import re
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    carried = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    lists = (ROOT / "plugins" / "CMakeLists.txt").read_text().split("ROPE_BUILD_TESTS")[0]
    folders = set(re.findall(r"\b(src|include|cmake)/", lists)) | {"include"}
    assert {f"plugins/{name}": f"rope_deploy/_plugins/{name}" for name in {*folders, "CMakeLists.txt"}} == carried


def test_info_of_another_file_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "lib.so").write_bytes(b"\x7fELF")
    assert run("info", tmp_path / "lib.so") == 2
    assert run("info", tmp_path / "absent.so") == 2
    assert "rope-deploy plugin build" in capsys.readouterr().err


def test_json_of_a_refusal_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("info", tmp_path / "absent.so", "--json") == 2
    assert "error" in json.loads(capsys.readouterr().out)


def test_the_environment_is_left_as_it_was(complete: Path) -> None:
    before = dict(os.environ)
    find_tools()
    assert dict(os.environ) == before
