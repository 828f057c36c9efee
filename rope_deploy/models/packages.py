"""A package that a model needs and that is not here: which one, and the command that brings it."""

from __future__ import annotations

import re

from rope_deploy.errors import EnvironmentMissing, quoted


def missing_package(source: str, error: ImportError) -> EnvironmentMissing:
    """What transformers, or a model's own code, says of the package; transformers names the command as well."""
    words = " ".join(str(error).split())
    commands = dict.fromkeys(re.findall(r"`(pip install [^`]+)`", words))
    if not commands and isinstance(error, ModuleNotFoundError) and error.name:
        commands = {f"pip install {error.name.partition('.')[0]}": None}
    return EnvironmentMissing(
        f"{source} needs a package that is not installed.",
        exists=quoted("The import", words.partition(" You can install")[0]),
        todo=f"Run {' or '.join(f'`{command}`' for command in commands)}." if commands else "",
    )


def lacks_package(error: BaseException) -> bool:
    """Whether it is a package that is missing, and not a name in one that is there."""
    return isinstance(error, ModuleNotFoundError) or (isinstance(error, ImportError) and "pip install" in str(error))


def root_of(error: BaseException) -> BaseException:
    """What all else followed from: PyTorch wraps an error two or three times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
