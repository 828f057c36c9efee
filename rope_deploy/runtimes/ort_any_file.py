"""Any ONNX file in ONNX Runtime: no manifest, no taps, every output."""

from __future__ import annotations

import resource
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnxruntime

from rope_deploy.errors import VendorError
from rope_deploy.runtimes.onnx_runtime import CPU, SILENT, quoted_error
from rope_deploy.runtimes.protocol import Arrays


class AnyFileRuntime:
    """An open file. Made by `open_any_file`."""

    name, taps = "ort", False

    def __init__(self, session: onnxruntime.InferenceSession):
        self._session = session

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.protocol`. Raises VendorError with ONNX Runtime's message."""
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:  # its exception classes share no base below Exception
            raise VendorError("ONNX Runtime refused it.", exists=quoted_error(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


def open_any_file(path: str, seconds: int) -> AnyFileRuntime:
    """Open a file in a child process, which SIGALRM ends after `seconds`.

    Raises VendorError with ONNX Runtime's message.
    """
    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_DATA):  # those of a parent were meant for its own work
        with suppress(ValueError):  # then they stay as they are, and are tighter than ours
            resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
    signal.alarm(seconds)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        return AnyFileRuntime(onnxruntime.InferenceSession(str(Path(path)), options, providers=list(CPU)))
    except Exception as error:  # as above
        raise VendorError("ONNX Runtime refused it.", exists=quoted_error(error)) from error
