"""The error for a private name of a library that the installed version no longer has."""

from __future__ import annotations

from importlib.metadata import version

from rope_deploy.errors import EnvironmentMissing


def gone(library: str, seen_in: str, error: BaseException) -> EnvironmentMissing:
    """The error for a name that `library` had in version `seen_in`; `error` is what its absence raised."""
    return EnvironmentMissing(
        f"{library} {version(library)} lacks a private name that rope_deploy uses: {error}.",
        exists=f"It was there in {library} {seen_in}.",
        todo=f"Install that version (`pip install {library}=={seen_in}.*`), or a newer rope_deploy.",
    )
