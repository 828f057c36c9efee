"""What a patch is: one replacement of other people's code, for as long as a block lasts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal
from unittest import mock

from rope_deploy.errors import EnvironmentMissing

# load: a source is read; weights: transformers makes a model and fills it; make: any model is made; run: a model runs,
# as the reference or while it is traced; trace: it is traced.
Scope = Literal["load", "weights", "make", "run", "trace"]

COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Patch:
    """One replacement of other people's code.

    `name` is what manifests call it. `target` names what is replaced, `reason` says why. `versions` are those of
    libraries that it was written for, "transformers 5.23". `applies` tells whether a model needs it; the model is None
    in the scopes in which there is none yet. `apply` gives a context manager: the patch is in place inside its block,
    and everything is as it was after the block. Entering it raises EnvironmentMissing where the target has changed.
    """

    name: str
    scope: Scope
    target: str
    reason: str
    versions: tuple[str, ...]
    applies: Callable[[Any], bool]
    apply: Callable[[Any], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Replacement:
    """`ours` in place of the function `name` of `owner`, a module or an object.

    `needs` are attributes of the owner that ours reads, `ignores` arguments of the other that ours can do without.
    """

    owner: Any
    name: str
    ours: Callable
    needs: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()


@contextmanager
def replaced(patch: str, versions: tuple[str, ...], replacements: Iterable[Replacement]) -> Iterator[None]:
    """Inside the block each of `replacements` is in place; `patch` and `versions` are named if one does not fit."""
    with ExitStack() as stack:
        for one in replacements:
            if fault := misfit(one):
                raise changed(patch, f"{_name(one.owner)}.{one.name} {fault}", versions)
            stack.enter_context(mock.patch.object(one.owner, one.name, one.ours))
        yield


def changed(patch: str, fault: str, versions: tuple[str, ...]) -> EnvironmentMissing:
    """The error for a patch whose target is no longer what it was written for."""
    libraries = [one.partition(" ")[0] for one in versions]
    installed = ", ".join(f"{name} {version(name)}" for name in libraries)
    return EnvironmentMissing(
        f"The patch {patch!r} does not fit: {fault}.",
        exists=f"It was written for {', '.join(versions)}; installed: {installed}.",
        todo=f"Install what it was written for, or a newer rope_deploy: pip install {_pinned(versions)}.",
    )


def misfit(one: Replacement) -> str:
    """How the function that is replaced differs from what ours was written for; "" if it does not.

    Ours must take what the other demands, and demand nothing that the other does not take.
    """
    original = getattr(one.owner, one.name, None)
    if not callable(original):
        return "is gone"
    if missing := [name for name in one.needs if not hasattr(one.owner, name)]:
        return f"is of an object without {', '.join(missing)}"
    theirs, ours = _parameters(original), _parameters(one.ours)
    unknown = [name for name in theirs if name not in ours and name not in one.ignores]
    if unknown and not (_collects(one.ours) and not any(_required(theirs[name]) for name in unknown)):
        return f"takes {', '.join(unknown)}, which ours does not know"
    demanded = [name for name, parameter in ours.items() if _required(parameter)]
    if lost := [name for name in demanded if name not in theirs]:
        return f"does not take {', '.join(lost)}"
    if [name for name in theirs if name in demanded] != demanded:
        return f"takes {', '.join(demanded)} in another order"
    return ""


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {name: one for name, one in found.items() if one.kind not in COLLECTING}


def _collects(function: Callable) -> bool:
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


def _required(one: inspect.Parameter) -> bool:
    return one.default is inspect.Parameter.empty


def _name(owner: Any) -> str:
    return getattr(owner, "__name__", type(owner).__name__)


def _pinned(versions: tuple[str, ...]) -> str:
    return " ".join(f"{name}=={number}.*" for name, _, number in (one.partition(" ") for one in versions))
