"""The kernel from Python, for tests and benchmarks: builds its libraries, mirrors rope_kernel.h in ctypes.

Needs the standard library and numpy. Memory is handed over as addresses, so arrays and torch tensors serve alike.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
BUILDS = HERE.parent / "build" / "kernel"
HOST, CUDA = HERE / "tests" / "rope_host.cpp", HERE / "tests" / "rope_gpu.cu"

FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2
NAN, PASS_THROUGH = 0, 1
CHUNKED, INTERLEAVED = 0, 1


class Strides(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "token", "head")]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("input", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("in_stride", Strides),
        ("out_stride", Strides),
        ("heads", ctypes.c_int32),
        ("norm_weight", ctypes.c_void_p),
    ]


class Parameters(ctypes.Structure):
    """rope::Parameters, field by field; what is not given has the default of the header."""

    _fields_ = [
        ("q", Tensor),
        ("k", Tensor),
        ("type", ctypes.c_int32),
        ("batch", ctypes.c_int32),
        ("tokens", ctypes.c_int32),
        ("head_dim", ctypes.c_int32),
        ("rotary_dim", ctypes.c_int32),
        ("interleaved", ctypes.c_bool),
        ("proportional", ctypes.c_bool),
        ("cos_cache", ctypes.c_void_p),
        ("sin_cache", ctypes.c_void_p),
        ("cache_type", ctypes.c_int32),
        ("cache_rows", ctypes.c_int32),
        ("cache_row_stride", ctypes.c_int64),
        ("outside", ctypes.c_int32),
        ("turn_steps", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("positions", ctypes.c_void_p),
        ("positions_are_int64", ctypes.c_bool),
        ("position_batch_stride", ctypes.c_int64),
        ("position_token_stride", ctypes.c_int64),
        ("position_axis_stride", ctypes.c_int64),
        ("position_axes", ctypes.c_int32),
        ("section", ctypes.c_int32 * 3),
        ("sections", ctypes.c_int32),
        ("norm_eps", ctypes.c_float),
        ("norm_type", ctypes.c_int32),
        ("early_start", ctypes.c_bool),
        ("heads_per_thread", ctypes.c_int32),
    ]

    def __init__(self, **values: object) -> None:
        super().__init__(**{"scale": 1.0, "position_token_stride": 1, "position_axes": 1, "norm_eps": 1e-6, **values})


class Cut(NamedTuple):
    """How the work is cut up: rope_plan.h."""

    vector: int
    heads_per_thread: int
    lanes: int
    items: int
    plain: int


_CALL = [ctypes.POINTER(Parameters), ctypes.c_void_p]
_SIGNATURES = {
    "rope_launch": (_CALL, ctypes.c_char_p),
    "rope_plan": ([ctypes.POINTER(Parameters), ctypes.POINTER(ctypes.c_int64)], ctypes.c_char_p),
    "rope_turn_step": ([ctypes.c_double], ctypes.c_uint64),
    "rope_size_of_parameters": ([], ctypes.c_int64),
    "rope_allocate": ([ctypes.c_int64], ctypes.c_void_p),
    "rope_free": ([ctypes.c_void_p], None),
    "rope_copy": ([ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], ctypes.c_char_p),
}


class Memory:
    """A copy of an array where the kernel can reach it, `offset` bytes off a multiple of 256; freed with the object."""

    def __init__(self, kernel: Kernel, array: np.ndarray, offset: int = 0) -> None:
        self._library, self._like = kernel.library, array
        self._block = self._library.rope_allocate(array.nbytes + offset)
        if not self._block:
            raise MemoryError(f"{array.nbytes} bytes were refused")
        self.address = self._block + offset
        source = np.ascontiguousarray(array)
        _raise(self._library.rope_copy(self.address, source.ctypes.data, array.nbytes))

    def read(self) -> np.ndarray:
        """What is there now. Waits for launches; raises RuntimeError if one of them failed."""
        result = np.empty_like(self._like, order="C")
        _raise(self._library.rope_copy(result.ctypes.data, self.address, result.nbytes))
        return result

    def __del__(self) -> None:
        if getattr(self, "_block", None):
            self._library.rope_free(self._block)


class Kernel:
    """A built library. `launch` returns None, or what is wrong in words; on a GPU it does not wait."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        for name, (arguments, result) in _SIGNATURES.items():
            function = getattr(self.library, name)
            function.argtypes, function.restype = arguments, result
        size = self.library.rope_size_of_parameters()
        if size != ctypes.sizeof(Parameters):
            raise RuntimeError(f"{library} has {size} bytes of parameters, this mirror {ctypes.sizeof(Parameters)}")

    def launch(self, parameters: Parameters, stream: int = 0) -> str | None:
        return _words(self.library.rope_launch(parameters, stream))

    def launch_empty(self, parameters: Parameters, stream: int = 0) -> str | None:
        """The same launch of a kernel that does nothing. Only in the CUDA library."""
        empty = self.library.rope_launch_empty
        empty.argtypes, empty.restype = _SIGNATURES["rope_launch"]
        return _words(empty(parameters, stream))

    def cut(self, parameters: Parameters) -> Cut:
        """Raises ValueError with what is wrong with the parameters."""
        numbers = (ctypes.c_int64 * len(Cut._fields))()
        if fault := self.library.rope_plan(parameters, numbers):
            raise ValueError(_words(fault))
        return Cut(*numbers)

    def turn_steps(self, inv_freq: np.ndarray) -> np.ndarray:
        """inv_freq, radians per position, fp64 [R/2], as the kernel takes it, uint64 [R/2]."""
        return np.array([self.library.rope_turn_step(float(f)) for f in inv_freq], np.uint64)


def sources() -> dict[str, str]:
    """Every file that the libraries are made of, by its path below plugins/."""
    names = ("include/rope_kernel.h", "src/rope_kernel.cu", "src/rope_math.h", "src/rope_plan.h", "src/rope_types.h")
    names += ("tests/entries.h", "tests/rope_host.cpp", "tests/rope_gpu.cu")
    return {name: (HERE / name).read_text() for name in names}


def build_host(text: dict[str, str] | None = None, flags: Sequence[str] = ("-O2",), builds: Path = BUILDS) -> Path:
    """The kernel for the CPU, by the system's C++ compiler. `text` are other sources, say with a planted fault.

    Raises FileNotFoundError where there is no compiler, RuntimeError with its words if it fails.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler: c++ and g++ are not on the path, CXX is not set")
    # No contraction of a * b + c behind the code's back: on the GPU it says itself where it wants one rounding.
    command = [compiler, "-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared"]
    return _build([*command, "-fPIC", *flags], HOST, text or sources(), builds)


def build_cuda(
    architectures: Sequence[str] = ("native",), text: dict[str, str] | None = None, builds: Path = BUILDS
) -> Path:
    """The kernel for GPUs of these architectures, as in "90", or for the one present. Raises as build_host does."""
    compiler = shutil.which("nvcc")
    if compiler is None:
        raise FileNotFoundError("no nvcc on the path")
    command = [compiler, "-std=c++17", "-O3", "-lineinfo", "-Werror", "all-warnings", "-shared", "-cudart", "static"]
    targets = ["-arch=native"]
    if "native" not in architectures:
        targets = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in architectures]
    return _build([*command, "-Xcompiler", "-fPIC,-Wall,-Wextra", *targets], CUDA, text or sources(), builds)


def _build(command: Sequence[str], main: Path, text: dict[str, str], builds: Path) -> Path:
    """Compile once: the folder is named after the command and what it reads."""
    key = hashlib.sha256(repr((command, main.name, sorted(text.items()))).encode()).hexdigest()[:16]
    folder = builds / f"{main.stem}-{key}"
    library = folder / f"{main.stem}.so"
    if library.exists():
        return library
    for name, content in text.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    unfinished = folder / f"{os.getpid()}.so"
    made = subprocess.run(
        [*command, str(folder / main.relative_to(HERE)), "-o", str(unfinished)], capture_output=True, text=True
    )
    if made.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{made.stdout}{made.stderr}")
    os.replace(unfinished, library)
    return library


def _raise(message: bytes | None) -> None:
    if message is not None:
        raise RuntimeError(message.decode())


def _words(message: bytes | None) -> str | None:
    return None if message is None else message.decode()
