"""Silence the progress bars, warnings and notices of libraries, so that only our own output is printed."""

from __future__ import annotations

import logging
import os
import sys
import warnings

# Read by the libraries when they are imported; a value the user has set already wins.
_VARIABLES = {
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # our own steps show what goes on; a bar of every library would fill a log
    "HF_HUB_VERBOSITY": "error",  # it reports each retry; our own message names what failed in the end
    "TORCH_LOGS": "-all",  # errors only; torch resets its loggers on import, so a level set here would not last
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_LOGGERS = ("accelerate", "huggingface_hub", "onnx_ir", "onnxscript", "transformers")


def quiet_libraries() -> None:
    """Silence them. The command line calls this once, before it imports any library; Python callers keep every message.

    `python -W default -m rope_deploy ...` brings the warnings back.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
