"""What docs, docstrings and comments refer to exists: files, modules, and names inside modules."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.folders import ROOT, WITH_CODE

SOURCES = sorted(path for folder in WITH_CODE for path in (ROOT / folder).rglob("*.py"))
CHECKED = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "tests"]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "Makefile")]
PAGES += [ROOT / ".ci" / "run", ROOT / ".ci" / "packages", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "rope_deploy" / "results" / "pages").glob("*.md"))
OURS = re.compile(r"(?<![\w./])(?:rope_deploy|conformance|faults|fuzz|benchmarks|tests|docs)(?:\.[a-zA-Z]\w*)+")
FILE = re.compile(r"(?<![\w./*-])((?:\w+/)*\w+\.py)\b")
# Files of other projects, and names that only look like modules of ours: keys of metadata, custom operators.
ELSEWHERE = {"modeling_rope_utils.py", "numpy.py", "file.py"}
NOT_MODULES = re.compile(r"rope_deploy\.(tokens|products|exchange|RopeRotate\w*)")


def prose(path: Path) -> str:
    """The text of a page, or the comments and strings of a module."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return text
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    docstrings = [ast.get_docstring(node) or "" for node in nodes]
    comments = re.findall(r"(?:^|\s)#\s.*$", text, re.MULTILINE)
    return "\n".join([*docstrings, *comments])


@cache
def names_of(module: Path) -> frozenset[str]:
    """What a module defines or imports, and the members of its classes."""
    names: set[str] = set()
    tree = ast.parse(module.read_text("utf-8"))
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef | ast.If | ast.Try))]
    for node in (node for block in blocks for node in block):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)


def exists(dotted: str) -> bool:
    """Whether `dotted` is a module or package of ours, or a name inside one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        for module in (path.with_suffix(".py"), path / "__init__.py"):
            if module.is_file():
                return end == len(parts) or parts[end] in names_of(module)
    return False


def missing(path: Path) -> list[str]:
    text = prose(path)
    known = {source.name for source in SOURCES}
    dotted = {name for name in OURS.findall(text) if name.rpartition(".")[2] not in ("json", "py", "md", "toml")}
    found = [name for name in sorted(dotted) if not exists(name) and not NOT_MODULES.fullmatch(name)]
    for name in sorted(set(FILE.findall(text))):
        if re.search(r"[A-Z]{4}", name):  # a placeholder: rope/rules/NAME.py
            continue
        here = (ROOT / name).is_file() or any(source.as_posix().endswith(f"/{name}") for source in SOURCES)
        if not here and name.split("/")[-1] not in ELSEWHERE and (("/" in name) or name not in known):
            found.append(name)
    return found


@pytest.mark.parametrize("path", [*PAGES, *CHECKED], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_referred_to_exists(path: Path) -> None:
    assert missing(path) == []


def test_a_stale_reference_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "See rope_deploy.errors.UsageError, rope_deploy.exporter.write and graph/byrow.py, not graph/io.py."
    )
    assert missing(page) == ["rope_deploy.exporter.write", "graph/byrow.py"]
