"""Every error this package raises on purpose.

    RopeDeployError                exit code
    ├── CheckFailed                1  a check or a gate said no
    ├── UsageError                 2  the request itself cannot be carried out
    │   ├── ConfigError            2  a configuration or manifest file is wrong (all faults listed)
    │   ├── ModelError             2  the model cannot be loaded or has nothing to rotate
    │   ├── UnmatchedRotation      2  a rotation in the graph was not understood
    │   ├── MistakeFound           2  a rotation is not what the configuration says, and nobody accepted that
    │   └── PositionOutOfRange     2  a position lies outside the exported table
    ├── EnvironmentMissing         3  a package, a GPU, disk space or a tool is absent
    ├── VendorError                4  a vendor's compiler, builder or runtime failed
    │   ├── GraphRefused           4  it does not take an operator of the graph
    │   └── RuntimeCrashed         4  it took its process with it
    └── InternalFault              5  we failed: neither the request nor the file is to blame

Any other exception that reaches the command line is an internal fault too. Its exit code is never 1, so that a gate
cannot take it for a failed check.

A message has three parts, and every raise fills in what it knows: what was asked, what exists, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_QUOTE = 300  # characters of a quoted message
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)

BUG = (
    "This is a fault in rope-deploy, not in what you asked for. Please report it with the command, "
    "its output with --traceback, and the output of `rope-deploy doctor`."
)


def quoted(speaker: str, text: BaseException | str) -> str:
    """The message of a library, as a detail under a sentence of ours: "transformers says: ValueError: no such file".

    On one line, without what a terminal would obey, and cut.
    """
    text = f"{type(text).__name__}: {text}" if isinstance(text, BaseException) else text
    text = "".join(one if one.isprintable() else " " for one in _ESCAPES.sub("", text))
    text = " ".join(text.split()).removesuffix(":") or "nothing"
    return f"{speaker} says: {text if len(text) <= LONGEST_QUOTE else f'{text[:LONGEST_QUOTE]} …'}"


class RopeDeployError(Exception):
    """Base of the tree. `asked`: what went wrong; `exists`: what is there instead; `todo`: the next step."""

    exit_code = 1

    def __init__(self, asked: str, *, exists: str = "", todo: str = ""):
        super().__init__(asked)
        self.asked, self.exists, self.todo = asked, exists, todo

    def __str__(self) -> str:
        return "\n".join(part for part in (self.asked, self.exists, self.todo) if part)


class CheckFailed(RopeDeployError):
    exit_code = 1


class UsageError(RopeDeployError):
    exit_code = 2


class ConfigError(UsageError):
    """A file with faults; `faults` holds one sentence each, so that all can be mended in one go."""

    def __init__(self, asked: str, faults: Sequence[str] = (), *, exists: str = "", todo: str = ""):
        super().__init__(asked, exists=exists, todo=todo)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        listed = "\n".join(f"  - {fault}" for fault in self.faults)
        return "\n".join(part for part in (self.asked, listed, self.exists, self.todo) if part)


class ModelError(UsageError):
    pass


class UnmatchedRotation(UsageError):
    pass


class MistakeFound(UsageError):
    """A mistake that has a name was found in what was to be exported or rewritten. `codes` are those of `--accept`."""

    def __init__(self, asked: str, *, exists: str = "", todo: str = "", codes: Sequence[str] = ()):
        super().__init__(asked, exists=exists, todo=todo)
        self.codes = tuple(codes)


class PositionOutOfRange(UsageError):
    pass


class EnvironmentMissing(RopeDeployError):
    exit_code = 3


class VendorError(RopeDeployError):
    exit_code = 4


@dataclass(frozen=True)
class RefusedNode:
    """A node of a graph that a vendor does not take. `inside`: the functions it lies in, outermost last."""

    operator: str
    name: str
    inside: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.operator} {self.name!r}" + "".join(f" in {function}" for function in self.inside)


class GraphRefused(VendorError):
    """`nodes` are those the vendor named. `of_rotation`: one of them belongs to a rotation, so that another style may
    help; None where that is not known."""

    def __init__(
        self,
        asked: str,
        *,
        exists: str = "",
        todo: str = "",
        nodes: Sequence[RefusedNode] = (),
        of_rotation: bool | None = None,
    ):
        super().__init__(asked, exists=exists, todo=todo)
        self.nodes, self.of_rotation = tuple(nodes), of_rotation


class RuntimeCrashed(VendorError):
    pass


class InternalFault(RopeDeployError):
    """An exception that nobody expected; made `of` one, it says so and asks for a report."""

    exit_code = 5

    @classmethod
    def of(cls, kind: str, text: str) -> InternalFault:
        first = (text.strip().splitlines() or ["(no message)"])[0]
        return cls(f"Unexpected {kind}: {first}", todo=BUG)
