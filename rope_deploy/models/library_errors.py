"""Explain an error of a library: the line that raised it, its root cause, a package that is absent."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from rope_deploy.errors import EnvironmentMissing, ModelError, quoted
from rope_deploy.models.transformers_private import TRANSFORMERS_DYNAMIC_MODULE_NAME


def missing_package(source: str, error: ImportError) -> EnvironmentMissing | ModelError:
    """The error for a package that a model needs and that is absent, with the command where transformers names it."""
    message = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
        return ModelError(  # the model's own code, copied there under that name
            f"{source} brings code that imports {str(error.name).rpartition('.')[2]}, which is not there.",
            todo="Copy all modules of its code to its folder.",
        )
    commands = dict.fromkeys(re.findall(r"`(pip install [^`]+)`", message))
    if not commands and isinstance(error, ModuleNotFoundError) and error.name:
        commands = {f"pip install {error.name.partition('.')[0]}": None}
    return EnvironmentMissing(
        f"{source} needs a package that is not installed.",
        exists=quoted("The import", message.partition(" You can install")[0]),
        todo=f"Run {' or '.join(f'`{command}`' for command in commands)}." if commands else "",
    )


def lacks_package(error: BaseException) -> bool:
    """Whether it is a package that is missing, and not a name in one that is there."""
    return isinstance(error, ModuleNotFoundError) or (isinstance(error, ImportError) and "pip install" in str(error))


def code_line(error: BaseException) -> str:
    """The line of code that raised `error`: file.py:12 (the line)."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno} ({last.line})"


def root_of(error: BaseException) -> BaseException:
    """What all else followed from: PyTorch wraps an error two or three times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
