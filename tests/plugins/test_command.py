"""`rope-deploy plugin build` with the real compilers, and what it shows of what it built."""

from __future__ import annotations

import ctypes
import json
import shutil
from pathlib import Path

import pytest

from rope_deploy import api
from rope_deploy.cli import main as entry
from rope_deploy.errors import VendorError
from rope_deploy.trt.plugin import compile_library
from tests.plugins.driving import Built

ROOT = Path(__file__).parent.parent.parent
# The two shortest files in place of the kernel: what is tried here is the build, and the kernel takes its time.
SHORT = '#include "../include/rope_kernel.h"\nnamespace rope {\nconst char* launch(const Parameters&, CUstream_st*) '
SHORT += 'noexcept { return "no kernel in here"; }\n}  // namespace rope\n'


@pytest.fixture
def source(tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of plugins/ whose kernel is empty; `built` tells that compilers are here."""
    copy = tmp_path / "plugins"
    for name in ("cmake", "include", "src"):
        shutil.copytree(ROOT / "plugins" / name, copy / name)
    shutil.copy(ROOT / "plugins" / "CMakeLists.txt", copy)
    (copy / "src" / "rope_kernel.cu").write_text(SHORT)
    monkeypatch.setattr(compile_library, "find_source", lambda: copy)
    return copy


@pytest.mark.slow
def test_a_library_for_one_architecture_is_built_and_described(source: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "new" / "lib.so"
    assert entry.main(["plugin", "build", "-o", str(target), "--arch", "8.0", "--json"]) == 0
    stated = json.loads(capsys.readouterr().out)
    assert stated["path"] == str(target) and stated["architectures"] == ["80-real"]
    assert api.plugin_info(target).version == stated["version"]
    count = ctypes.c_int32()
    assert ctypes.CDLL(str(target)).getCreators(ctypes.byref(count)) != 0 and count.value == 2


@pytest.mark.slow
def test_by_default_it_is_built_for_every_architecture_that_nvcc_knows(source: Path, tmp_path: Path) -> None:
    library = api.plugin_build(tmp_path / "lib.so")
    machine = [name.removesuffix("-real") for name in library.architectures if name.endswith("-real")]
    assert {"80", "89", "90"} <= set(machine) <= {"75", "80", "86", "89", "90", "100", "120"}
    assert library.architectures[-1] == f"{machine[-1]}-virtual"


@pytest.mark.slow
def test_a_source_that_does_not_compile_ends_with_the_compilers_words(source: Path, tmp_path: Path) -> None:
    (source / "src" / "rope_kernel.cu").write_text(SHORT.replace("return", "retrun"))
    with pytest.raises(VendorError, match="does not compile") as caught:
        api.plugin_build(tmp_path / "lib.so", architectures=["8.0"])
    assert "rope_kernel.cu" in caught.value.exists and "retrun" in caught.value.exists
    assert not (tmp_path / "lib.so").exists()


def test_info_shows_operators_attributes_targets_and_how_to_use_it(built: Built, capsys) -> None:
    assert entry.main(["plugin", "info", str(built.library)]) == 0
    said = capsys.readouterr().out
    for words in (
        "RopeRotate(x, cos_cache, sin_cache, rows) -> x_rotated",
        "RopeRotateQK(q, k, cos_cache, sin_cache, rows) -> q_rotated, k_rotated",
        "heads_axis",
        "[0, 0, 0]",
        f"targets   sm_{api.plugin_info(built.library).architectures[0].removesuffix('-real')}",
        f"--dynamicPlugins={built.library} --enablePluginOverride",
    ):
        assert words in said
