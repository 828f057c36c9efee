"""How a manifest is read: JSON of our own form and version, with every fault reported at once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from rope_deploy.errors import ConfigError
from rope_deploy.safe_reading import parse_json, read_bytes


class Versioned(Protocol):
    schema_version: int


Read = TypeVar("Read", bound=Versioned)


def read_versioned(path: Path, form: TypeAdapter[Read], version: int, *, what: str, todo: str) -> Read:
    """What `path` holds. Raises ConfigError if it is no valid `what`, e.g. "manifest", or of another version, and
    UsageError for a file that is larger than any document."""
    content = read_bytes(path)
    try:
        document = parse_json(content)  # whose rules are stricter than those of the form: no key twice, bounded depth
    except ValueError as error:
        raise ConfigError(f"{path} is not a valid {what}:", [f"document: {error}."], todo=todo) from None
    stated = document.get("schema_version", version) if isinstance(document, dict) else version
    if type(stated) is int and stated != version:  # asked first: the form of another version has other keys
        raise ConfigError(
            f"{path} has schema version {stated}.", exists=f"This rope-deploy reads version {version}.", todo=todo
        )
    try:
        return form.validate_json(content)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} is not a valid {what}:", faults, todo=todo) from None
