"""gguf reads a file once for one load, and fast.

To load one model, transformers makes gguf's reader three times, for configuration, weights and tokenizer, and gguf's
table of tensor names anew for every module. The reader cuts each text of the vocabulary out of numpy's memmap, which
takes five times as long as out of a plain array: seconds for a file of 100 MB.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import gguf
import numpy as np

from rope_deploy.models.patches.held_once import held_once
from rope_deploy.models.patches.patch import Patch

READER, NAMES = gguf.GGUFReader, gguf.get_tensor_name_map


class PlainReader(READER):
    """gguf's reader on a plain view of the mapped file."""

    @property
    def data(self) -> np.ndarray:
        return self._view

    @data.setter
    def data(self, mapped: np.memmap) -> None:
        self._view = mapped.view(np.ndarray)


@contextmanager
def _read_once() -> Iterator[None]:
    """Inside the block gguf gives one reader for one path, and one table of names for one architecture.

    When it ends they are forgotten, and the next load reads the file again.
    """
    with (
        mock.patch.object(gguf, "GGUFReader", functools.cache(PlainReader)),
        mock.patch.object(gguf, "get_tensor_name_map", functools.cache(NAMES)),
    ):
        yield


GGUF_READER = Patch(
    name="gguf-reader",
    scope="load",
    target="gguf.GGUFReader and gguf.get_tensor_name_map",
    reason="transformers reads a GGUF file three times, and slowly.",
    versions=("gguf 0.19", "transformers 5.23"),
    applies=lambda _: True,
    apply=lambda _: held_once("gguf-reader", _read_once),
)
