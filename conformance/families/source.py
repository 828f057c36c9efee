"""What a modeling file says without being imported: its model classes, their configurations, and which can rotate.

Importing all of transformers' modeling files takes minutes; parsing them takes seconds, and needs none of the
packages that some of them want.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Words of identifiers by which code about rotation is recognised: apply_rotary_pos_emb, Llama4VisionRotaryEmbedding,
# rope_theta, apply_multidimensional_rope, rotate_every_two, freqs_cis.
PARTS = frozenset(("rotary", "rope", "rotate", "cis"))
ABSTRACT = "PreTrainedModel"


@dataclass(frozen=True)
class ModelClass:
    """A class that derives from PreTrainedModel. `config` is the name of its configuration's class, "" if unstated;
    `parts` how many other definitions of its file it builds on; `inputs` what its forward takes."""

    name: str
    module: str
    config: str
    rotates: bool
    parts: int
    inputs: tuple[str, ...]


def identifier_parts(identifier: str) -> frozenset[str]:
    """`identifier` in lower case, split at underscores and capitals."""
    pieces = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)
    return frozenset(piece.lower() for piece in pieces)


def model_classes(path: Path, module: str) -> list[ModelClass]:
    """The concrete model classes that the modeling file at `path` defines, in its order; none if nothing rotates."""
    text = path.read_text()
    if not any(part in text.lower() for part in PARTS):  # parsing takes a hundred times longer
        return []
    tree = ast.parse(text)
    defined = dict(_definitions(tree))
    names = {name: _names(node) for name, node in defined.items()}
    classes = {name: node for name, node in defined.items() if isinstance(node, ast.ClassDef)}
    found = []
    for name in classes:
        line = list(_line(name, classes))
        inputs = _forward(line, classes)
        if not any(ABSTRACT in base for base in line[1:]) or (name.endswith(ABSTRACT) and not inputs):
            continue
        reached = _reach(name, names)
        rotates = any(identifier_parts(name) & PARTS for one in reached for name in (one, *names[one]))
        found.append(ModelClass(name, module, _config(line, classes), rotates, len(reached) - 1, inputs))
    return found


def default_sections(path: Path) -> tuple[int, ...]:
    """The sections of M-RoPE that a modeling file falls back to; () if it has none, or is none."""
    text = path.read_text() if path.exists() else ""
    found = re.search(r'"mrope_section",\s*\[([\d, ]+)\]', text)
    return tuple(int(number) for number in found[1].split(",")) if found else ()


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node


def _names(node: ast.AST) -> frozenset[str]:
    """Every identifier in the code of `node`; docstrings and comments do not count."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
    return frozenset(found)


def _reach(name: str, names: Mapping[str, frozenset[str]]) -> set[str]:
    """`name` and the definitions of the file that it uses, directly or not."""
    reached, todo = set(), [name]
    while todo:
        one = todo.pop()
        if one not in reached:
            reached.add(one)
            todo += [other for other in names[one] if other in names]
    return reached


def _line(name: str, classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    """The names of a class and of its bases, nearest first."""
    yield name
    if name in classes:
        for base in classes[name].bases:
            if isinstance(base, (ast.Name, ast.Attribute)):
                yield from _line(base.id if isinstance(base, ast.Name) else base.attr, classes)


def _config(line: list[str], classes: Mapping[str, ast.ClassDef]) -> str:
    """The nearest annotation `config: X`, or assignment `config_class = X`."""
    for name in line:
        for node in classes[name].body if name in classes else ():
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "config":
                return ast.unparse(node.annotation).strip("\"'").split(".")[-1].split(" ")[0]
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "config_class":
                return ast.unparse(node.value).split(".")[-1]
    return ""


def _forward(line: list[str], classes: Mapping[str, ast.ClassDef]) -> tuple[str, ...]:
    for name in line:
        for node in classes[name].body if name in classes else ():
            if isinstance(node, ast.FunctionDef) and node.name == "forward":
                return tuple(arg.arg for arg in (*node.args.args, *node.args.kwonlyargs) if arg.arg != "self")
    return ()
