"""What a child may take: processor time and memory."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# What reading a graph may take, weights aside: audits of real files take seconds and some hundred megabytes.
SECONDS, BYTES = 50, 3 << 30
BYTES_A_SECOND = 4 << 20  # of a file that is read whole and written again
COPIES = 4  # of a file's tensors that may be in memory at once


@dataclass(frozen=True)
class Limits:
    """`seconds` of processor time, and `bytes` of memory that is not a mapped file; None is no limit."""

    seconds: int | None = SECONDS
    bytes: int | None = BYTES

    @classmethod
    def of_file(cls, path: Path) -> Limits:
        """What work on the ONNX file or artifact at `path` may take: it grows with all that lies beside it.

        A folder that cannot be listed counts as empty: the work itself says what is wrong with it.
        """
        path = Path(path)
        folder = path if os.path.isdir(path) else path.parent
        size = 0
        with suppress(OSError):
            size = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
        return cls(SECONDS + size // BYTES_A_SECOND, BYTES + COPIES * size)

    def apply(self) -> None:
        """Set them for this process. Soft limits alone: a runtime that it starts for itself may set its own."""
        for kind, most in ((resource.RLIMIT_CPU, self.seconds), (resource.RLIMIT_DATA, self.bytes)):
            hard = resource.getrlimit(kind)[1]
            if most is not None:
                resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


WITHOUT_LIMITS = Limits(None, None)
