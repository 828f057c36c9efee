"""A case: a surface, edits of its files, and one command that then reads them.

Seed and number determine a case, so a campaign can be resumed and one case be run again; a recipe holds the same as
JSON, so that it stays what it is when the code that draws cases changes.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faults.manifest_tampering import random_tampering
from faults.wrong_artifacts import make_wrong
from fuzz.edits import FileEdit, apply, random_edit
from fuzz.surfaces import FORMS, STYLES, SURFACES, Surface

MOST_EDITS = 6
TAMPERED = 0.7  # of the edits of a wrong artifact's manifest, the share that means to hide the mistake


@dataclass(frozen=True)
class Case:
    """`chosen`: the style, the form and the mistake drawn for this case. `kills`: shares of the changes it makes."""

    surface: str
    chosen: dict[str, str]
    edits: list[FileEdit] = field(default_factory=list)
    argv: list[str] = field(default_factory=list)
    fails: bool = False
    kills: list[float] = field(default_factory=list)

    def to_recipe(self) -> dict[str, Any]:
        return asdict(self)


def from_recipe(recipe: dict[str, Any]) -> Case:
    return Case(**recipe)


def draw(seed: int, number: int, seeds: Path, box: Path, canary: Path, only: tuple[str, ...] = ()) -> Case:
    """The case of this seed and number; its box is laid out and its edits are carried out."""
    rng = random.Random(f"{seed}/{number}")
    surfaces = [surface for surface in SURFACES if not only or surface.name in only]
    (surface,) = rng.choices(surfaces, [one.weight for one in surfaces])
    (command,) = rng.choices(surface.commands, [one.weight for one in surface.commands])
    chosen = {"style": rng.choice(STYLES), "form": rng.choice(FORMS), "other": rng.choice(STYLES)}
    if surface.wrong:
        chosen["wrong"] = rng.choice(surface.wrong)
    lay_out(surface, chosen, seeds, box)
    edits: list[FileEdit] = []
    while surface.mutated and (not edits or (len(edits) < MOST_EDITS and rng.random() < 0.45)):
        edit = _random_edit(rng, surface, box)
        apply(edit, box, canary)
        edits.append(edit)
    _hash_again(surface, box)
    target, other = rng.sample(STYLES, 2)
    argv = [argument.format(style=target, other=other) for argument in command.argv]
    kills = [rng.random() for _ in range(rng.randint(1, surface.kills))] if surface.kills else []
    return Case(surface.name, chosen, edits, argv, command.fails, kills)


def _random_edit(rng: random.Random, surface: Surface, box: Path) -> FileEdit:
    name = _one_file(rng, box, rng.choice(surface.mutated))
    if not (box / name).is_file():
        return [name, "file.empty"]
    if surface.wrong and rng.random() < TAMPERED:
        return random_tampering(rng, name)
    return random_edit(rng, box, name)


def rebuild(case: Case, seeds: Path, box: Path, canary: Path) -> None:
    """Lay out the box of a case that was drawn before, or comes from a recipe."""
    (surface,) = [surface for surface in SURFACES if surface.name == case.surface]
    lay_out(surface, case.chosen, seeds, box)
    for edit in case.edits:
        apply(edit, box, canary)
    _hash_again(surface, box)


def lay_out(surface: Surface, chosen: dict[str, str], seeds: Path, box: Path) -> None:
    """The sound files of a surface in a new box."""
    for pattern, path in surface.files:
        source, target = seeds / pattern.format(**chosen), box / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
        if (manifest := target / "rope_deploy.json").is_file():
            described = json.loads(manifest.read_text())
            described["source"] = "input/m"
            manifest.write_text(json.dumps(described))
    if surface.wrong:
        make_wrong(box / surface.tampered, chosen["wrong"])


def _hash_again(surface: Surface, box: Path) -> None:
    """Whoever tampers with an artifact redoes the hashes in its manifest."""
    path = box / surface.tampered / "rope_deploy.json"
    if not surface.wrong or not path.is_file():
        return
    try:
        described = json.loads(path.read_text("utf-8"))
        for name, info in described["files"].items():
            content = (path.parent / name).read_bytes()
            info.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        return
    path.write_text(json.dumps(described))


def _one_file(rng: random.Random, box: Path, pattern: str) -> str:
    """A file that fits `pattern`, or the pattern's own name where none does (an earlier edit removed it)."""
    found = sorted(str(path.relative_to(box)) for path in box.glob(pattern))
    return rng.choice(found) if found else pattern.replace("*", "model.onnx")
