"""Whatever is written goes through the artifact package: no other module changes the file system, but for reasons."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "rope_deploy"

# What changes files, folders or names, as a method or a function of a module.
CHANGING = {
    *("write_text", "write_bytes", "mkdir", "makedirs", "rmdir", "unlink", "remove_tree", "touch", "truncate"),
    *("rename", "renames", "symlink_to", "hardlink_to", "symlink", "link", "rmtree", "copy", "copyfile", "copytree"),
    *("move", "savez", "savez_compressed", "tofile", "save_file", "chmod", "mkstemp", "mkdtemp"),
    *("NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"),
}
MODULES = {"os", "shutil", "tempfile", "np", "numpy"}
PLAIN = {"copy", "link", "move", "remove", "replace", "save"}  # names too common to be taken for these elsewhere

# Modules that do, and why it is no writing of their own.
ALLOWED = {
    "graph/save.py": "weights get their name inside the hidden folder",
    "report/json_schema.py": "writes docs/schema for a maintainer, who calls it by name",
    "runs/build.py": "an artifact moves from one hidden folder to another",
    "runtimes/ort_profile.py": "ONNX Runtime's profile, in the system's folder for temporary files",
    "trt/engine_build.py": "a timing cache moves from one hidden folder to another",
    "trt/engine_manifest.py": "takes back a manifest whose engine did not come",
    "trt/plugin/compile_library.py": "CMake's folder, and its library copied to the hidden one",
    "trt/vendor_build.py": "writes the engine to the hidden file that its parent names",
}


def changes_of(source: str) -> list[str]:
    """The calls in `source` that change the file system."""
    return [found for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and (found := _change(node))]


def _change(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name):
            owner, method = "", False
        case ast.Attribute(attr=name, value=value):
            owner, method = value.id if isinstance(value, ast.Name) else "", True
        case _:
            return ""
    if name == "open":
        modes = [*call.args[:2], *(word.value for word in call.keywords if word.arg == "mode")]
        texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
        return next((f"open {text}" for text in texts if set(text) <= set("wbatx+") and set(text) & set("wax+")), "")
    if name in PLAIN:
        renames = name == "replace" and method and len(call.args) == 1 and not call.keywords
        return name if owner in MODULES or renames else ""
    return name if name in CHANGING else ""


def modules() -> dict[str, str]:
    return {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] != "artifact"
    }


def test_only_the_artifact_package_changes_the_file_system() -> None:
    found = {name: changes_of(source) for name, source in modules().items()}
    for name in found:  # of nodes and markers, in a package that writes in one place
        if name.startswith("graph/") and name not in ALLOWED:
            found[name] = [call for call in found[name] if call not in ("rename", "replace")]
    found = {name: calls for name, calls in found.items() if calls}
    assert {name: calls for name, calls in found.items() if name not in ALLOWED} == {}
    assert ALLOWED.keys() <= found.keys(), "a reason for nothing"


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text('x')",
        "open(path, 'w')",
        "path.open('ab')",
        "open(path, mode='x')",
        "os.replace(a, b)",
        "a.replace(b)",
        "shutil.move(a, b)",
        "np.savez(path, x=1)",
        "np.save(path, x)",
        "tempfile.TemporaryDirectory()",
        "path.parent.mkdir(parents=True)",
    ],
)
def test_a_writer_is_found(source) -> None:
    assert changes_of(source)


@pytest.mark.parametrize(
    "source", ["open(path)", "path.open('rb')", "text.replace('a', 'b')", "replace(a, b=1)", "x.copy()"]
)
def test_a_reader_is_none(source) -> None:
    assert changes_of(source) == []
