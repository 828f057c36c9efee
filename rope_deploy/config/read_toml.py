"""Read a TOML file into a `RunConfig`, or raise one error that lists all its faults.

Tables are decoded one by one, so that a fault in one does not hide those of another.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rope_deploy.config.cross_checks import breaches
from rope_deploy.config.fault_sentences import did_you_mean, printable, sentences, show
from rope_deploy.config.schema import (
    BenchSection,
    BuildSection,
    CheckSection,
    ExportSection,
    GatesSection,
    GenerateSection,
    ModelSection,
    OutputSection,
    RunConfig,
)
from rope_deploy.errors import ConfigError

TABLES: dict[str, type] = {
    "model": ModelSection,
    "export": ExportSection,
    "build": BuildSection,
    "check": CheckSection,
    "bench": BenchSection,
    "generate": GenerateSection,
    "gates": GatesSection,
    "output": OutputSection,
}
# Left out, these mean "not done"; the others then have their defaults.
OPTIONAL = ("build", "bench", "generate")
KEYS: dict[str, tuple[str, ...]] = {name: tuple(f.name for f in fields(cls)) for name, cls in TABLES.items()}
LARGEST_FILE = 1 << 20


def load_config(path: str | Path) -> RunConfig:
    """Read and validate one file.

    Raises ConfigError: no such file, a folder, unreadable, not UTF-8, not TOML, or any number of faults in it.
    """
    path = Path(path)
    return decode_config(_read(path), name=path.name, stem=path.stem)


def decode_config(text: str, *, name: str = "config.toml", stem: str = "config") -> RunConfig:
    """Validate the text of one file; `name` is what messages call it, `stem` the default title and folder."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{name} is not valid TOML: {_reason(error)}", todo="Mend that line and try again.") from None
    faults: list[str] = []
    title = document.get("title", stem)
    if not isinstance(title, str) or not title.strip():
        faults.append(f"title: must be text that is not blank, not {show(title)}.")
    faults += [_stray(key, value) for key, value in document.items() if key != "title" and key not in TABLES]
    sections: dict[str, Any] = {}
    for table, cls in TABLES.items():
        _decode_table(table, cls, document, sections, faults)
    faults += breaches(sections)
    if faults:
        count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{name} has {count}:", [printable(fault) for fault in faults])
    if not sections["output"].folder:
        sections["output"] = replace(sections["output"], folder=f"out/{stem}")
    return RunConfig(title=title, **sections)


def _decode_table(table: str, cls: type, document: dict[str, Any], sections: dict[str, Any], faults: list[str]) -> None:
    if table not in document and table in OPTIONAL:
        sections[table] = None
        return
    value = document.get(table, {})
    if not isinstance(value, dict):
        faults.append(f"[{table}]: must be a table (a line with [{table}] and keys below it), not {show(value)}.")
        return
    try:
        sections[table] = _adapter(cls).validate_python(value)
    except ValidationError as error:
        faults += sentences(error, table, KEYS)


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _stray(key: str, value: Any) -> str:
    """The sentence for a name at the top of the file that is neither a table nor the title."""
    if isinstance(value, dict):
        return f"[{key}]: there is no such table. {did_you_mean(key, tuple(TABLES))}"
    owners = [table for table, names in KEYS.items() if key in names]
    near = difflib.get_close_matches(key.lower(), ("title", *TABLES), n=1, cutoff=0.75)
    if owners and not near:
        return f"{key}: stands outside all tables. Did you mean the one of [{owners[0]}]?"
    return f"{key}: there is no such key. {did_you_mean(key, ('title', *TABLES))}"


def _read(path: Path) -> str:
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.toml"))
        raise ConfigError(
            f"{path} is a folder, not a configuration file.",
            exists=f"It holds: {', '.join(inside)}." if inside else "It holds no .toml file.",
            todo="Give one .toml file.",
        )
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no regular file.", todo="Give one .toml file.")
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}.", exists=_neighbours(path), todo="Check the path.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{path} is larger than {LARGEST_FILE >> 20} MiB; that is not a configuration file.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}.",
            todo="Save it as UTF-8, or check that it is the right file.",
        ) from None


def _neighbours(path: Path) -> str:
    try:
        names = sorted(p.name for p in path.parent.glob("*.toml"))
    except OSError:
        return ""  # only the hint is lost: the message names the missing file
    if not names:
        return f"{path.absolute().parent} holds no .toml file."
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else f"{path.parent} holds: {', '.join(names)}."


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply."
    return f"{error}".rstrip(".") + "."
