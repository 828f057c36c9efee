"""Run any ONNX file in ONNX Runtime, whoever wrote it: no manifest, no taps, every output."""

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
from rope_deploy.runtimes.onnx_runtime import CPU, SILENT, said
from rope_deploy.runtimes.protocol import Arrays


class PlainRuntime:
    """An open file. Made by `open_plain`."""

    name, taps = "ort", False

    def __init__(self, session: onnxruntime.InferenceSession):
        self._session = session

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.base`. Raises VendorError with ONNX Runtime's words."""
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:  # its exception classes share no base below Exception
            raise VendorError("ONNX Runtime refused it.", exists=said(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


def open_plain(path: str, seconds: int) -> PlainRuntime:
    """For a process of its own, which ends by SIGALRM after `seconds`. Raises VendorError with ONNX Runtime's words."""
    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_DATA):  # those of a parent were meant for its own work
        with suppress(ValueError):
            resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
    signal.alarm(seconds)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        return PlainRuntime(onnxruntime.InferenceSession(str(Path(path)), options, providers=list(CPU)))
    except Exception as error:  # as above
        raise VendorError("ONNX Runtime refused it.", exists=said(error)) from error
