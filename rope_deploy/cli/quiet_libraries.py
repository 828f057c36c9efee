"""Silence what libraries say for their own sake, so that what we print is all there is to read."""

from __future__ import annotations

import logging
import os
import sys
import warnings

# Read by the libraries when they are imported; a value the user has set already wins.
_VARIABLES = {
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # our own steps say what goes on; a bar of every library would fill a log
    "HF_HUB_VERBOSITY": "error",  # each of its retries; what failed in the end is said by us
    "TORCH_LOGS": "-all",  # errors only; torch resets its loggers on import, so a level set here would not last
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_LOGGERS = ("accelerate", "huggingface_hub", "onnx_ir", "onnxscript", "transformers")


def quiet_libraries() -> None:
    """Called once, by the command line, before any library is imported. Python callers keep every message.

    `python -W default -m rope_deploy ...` brings the warnings back.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
