"""Which versions of packages are installed, by the names that package indexes have for them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def package_versions(names: Iterable[str], *, absent: str | None = None) -> dict[str, str]:
    """The version of each of `names`, in their order.

    A package that is not installed has `absent` for a version; None: it is left out.
    """
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if absent is not None:
                found[name] = absent
    return found
