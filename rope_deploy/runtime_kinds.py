"""The runtimes by name, and what each is used for. One record a runtime, and no other list of their names.

What opens them is in `runtimes/`. The command line, the TOML reader and the options of commands derive from this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rope_deploy.errors import UsageError


@dataclass(frozen=True)
class RuntimeKind:
    """One runtime, by the `name` that options and reports have for it.

    checked   `check` compares it with PyTorch
    reference it is PyTorch's own result, to which `check` compares the others
    optional  many machines cannot run it although nothing is wrong (no GPU, no C++ compiler): a benchmark goes on
              without it
    """

    name: str
    checked: bool = False
    reference: bool = False
    optional: bool = False


_RECORDS = (
    RuntimeKind("torch", reference=True),
    RuntimeKind("torch-compile", optional=True),
    RuntimeKind("ort", checked=True),
    RuntimeKind("trt", checked=True, optional=True),
)
RUNTIMES: Mapping[str, RuntimeKind] = {kind.name: kind for kind in _RECORDS}
TIMED = tuple(RUNTIMES)  # `bench` times each
CHECKED = tuple(name for name, kind in RUNTIMES.items() if kind.checked)
# `check` takes the reference too, and does with it what it does anyway.
ACCEPTED_BY_CHECK = tuple(name for name, kind in RUNTIMES.items() if kind.checked or kind.reference)
OPTIONAL = tuple(name for name, kind in RUNTIMES.items() if kind.optional)
# For annotations that pydantic validates: a type checker sees a string, since the names are computed.
TimedName = Literal[TIMED]
CheckedName = Literal[CHECKED]


def require_runtimes(names: Sequence[str], engine: object | None, known: Sequence[str]) -> None:
    """Raise UsageError for a runtime that is not `known`, for none at all, or for trt without an engine."""
    if not names:
        raise UsageError("No runtime was named.", exists=f"Runtimes: {', '.join(known)}.")
    if strange := [name for name in names if name not in known]:
        raise UsageError(f"Unknown runtime {', '.join(strange)}.", exists=f"Runtimes: {', '.join(known)}.")
    if "trt" in names and engine is None:
        raise UsageError(
            "Runtime trt needs an engine.", todo="Make one with `rope-deploy build`, and give it with --engine FILE."
        )
