"""The compiled library as a file: what it exports, what it needs, and what it says about itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rope_deploy.errors import UsageError
from rope_deploy.graph.rotating_operators import PLUGIN_ATTRIBUTES, PLUGIN_UNUSED, ROTATE, ROTATE_QK
from rope_deploy.trt.plugin import read_library
from rope_deploy.trt.plugin.library_info import MARK
from tests.plugins.driving import FIELD_FLOAT32, FIELD_INT32, Built, Driver

USUAL = {"linux-vdso", "libstdc++", "libgcc_s", "libm", "libc", "libdl", "librt", "libpthread", "ld-linux-x86-64"}
USUAL |= {"ld-linux-aarch64"}


def said(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def exported(library: Path) -> set[str]:
    return {line.split()[-1] for line in said("nm", "-D", "--defined-only", library).splitlines()}


def needed(library: Path) -> set[str]:
    return {Path(line.split()[0]).name.split(".so")[0] for line in said("ldd", library).splitlines()}


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm, of binutils")
def test_the_library_exports_two_functions_and_nothing_else(built: Built) -> None:
    assert exported(built.library) == {"getCreators", "setLoggerFinder"}
    assert len(exported(built.driver)) > 2, "a library without a version script exports more, and that is seen"


@pytest.mark.skipif(shutil.which("ldd") is None, reason="needs ldd")
def test_the_library_needs_neither_tensorrt_nor_the_cuda_runtime(built: Built) -> None:
    assert needed(built.library) <= USUAL
    wanted = said("nm", "-D", "--undefined-only", built.library)
    assert re.search(r"\bcuda[A-Z]|nvinfer|getPluginRegistry|createInfer", wanted) is None


def test_every_field_that_the_creators_declare_is_described(built: Built, driver: Driver) -> None:
    kinds = {"INT32": FIELD_INT32, "FLOAT32": FIELD_FLOAT32}
    described = {a.name: (kinds[a.type], a.length) for a in read_library(built.library).attributes}
    assert driver.declared(ROTATE) == driver.declared(ROTATE_QK) == described


def test_exported_nodes_have_the_attributes_of_the_plugin_and_its_defaults(built: Built) -> None:
    attributes = {attribute.name: attribute for attribute in read_library(built.library).attributes}
    assert set(attributes) == {*PLUGIN_ATTRIBUTES, *PLUGIN_UNUSED}
    for name, value in PLUGIN_UNUSED.items():
        values = value if isinstance(value, list) else [value]
        assert values == [attributes[name].default] * attributes[name].length, name
        assert attributes[name].type == ("FLOAT32" if isinstance(values[0], float) else "INT32"), name
    assert [name for name, attribute in attributes.items() if attribute.required] == ["head_dim"]


def test_the_operators_are_those_that_the_exporter_writes(built: Built) -> None:
    library = read_library(built.library)
    assert [operator.name for operator in library.operators] == [ROTATE, ROTATE_QK]
    assert [len(operator.inputs) for operator in library.operators] == [4, 5]
    assert (library.operator_version, library.operator_namespace) == ("1", "")


def test_targets_and_versions_are_stated(built: Built) -> None:
    library = read_library(built.library)
    assert library.architectures and all(re.fullmatch(r"\d+[af]?-(real|virtual)", a) for a in library.architectures)
    assert re.match(r"1\d\.\d+", library.tensorrt_headers) and re.match(r"1\d\.\d", library.cuda)
    assert library.compiler.startswith(("GNU ", "Clang ")) and library.bytes == built.library.stat().st_size
    assert f"--dynamicPlugins={built.library}" in library.trtexec and "--enablePluginOverride" in library.trtexec


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "not a plugin library"),
        (MARK + b"{}\0", "not a plugin library"),
        (b"\x7fELF nothing of ours", "not a plugin library"),
        (b"\x7fELF" + MARK + b"{}\0", "another version"),
        (b"\x7fELF" + MARK + b'{"schema_version": 99}\0', "another version"),
        (b"\x7fELF" + MARK + b"no end", "another version"),
        (b"\x7fELF" + MARK + b"\xff\xfe\0", "another version"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "lib.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_library(path)
    assert "plugin build" in caught.value.todo
