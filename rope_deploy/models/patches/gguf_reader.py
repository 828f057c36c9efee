"""Let transformers take a GGUF file apart once, and fast.

To load one model it makes gguf's reader three times, for configuration, weights and tokenizer, and gguf's table of
tensor names anew for every module. The reader cuts each text of the vocabulary out of numpy's memmap, which takes five
times as long as out of a plain array: seconds for a file of 100 MB.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import gguf
import numpy as np

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
def taken_apart_once() -> Iterator[None]:
    """Inside the block gguf gives one reader for one path, and one table of names for one architecture.

    For one load: when it ends they are forgotten, and the next one reads the file again.
    """
    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(PlainReader), functools.cache(NAMES)
    try:
        yield
    finally:
        # Not what was there before: of two loads in two threads, the one could bring back what the other remembers.
        gguf.GGUFReader, gguf.get_tensor_name_map = READER, NAMES
