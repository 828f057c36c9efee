"""How large the result of an operator will be, worked out before it is: a line of a graph can ask for terabytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import psutil

from rope_deploy.errors import EnvironmentMissing
from rope_deploy.rope.bounds import require_positions

MOST_ELEMENTS = 2**28  # of one result; a table of a million positions has a quarter of that
# onnx's reference goes through the elements of these one by one.
LOOPING = frozenset({"GatherND", "Resize", "ScatterElements", "ScatterND", "Upsample"})
MOST_LOOPS = 2**21
MOST_PRODUCTS = 2**34  # multiplications of a matrix product
# What no cosine and no movement needs, and what runs for ever or draws numbers.
# fmt: off
NEVER = frozenset({
    "Attention", "Bernoulli", "BlackmanWindow", "Conv", "ConvInteger", "ConvTranspose", "DFT", "DeformConv",
    "FlexAttention", "GRU", "GridSample", "HammingWindow", "HannWindow", "If", "LSTM", "Loop", "MaxUnpool",
    "MelWeightMatrix", "Multinomial", "NonMaxSuppression", "Optional", "QLinearConv", "RNN", "RandomNormal",
    "RandomNormalLike", "RandomUniform", "RandomUniformLike", "RegexFullMatch", "RoiAlign", "STFT", "Scan",
    "SequenceMap", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer",
})
# fmt: on
# Bytes for each entry of a table: cos and sin as they are kept and joined, and fp64 copies while they are compared.
KEPT, WORKING = 16, 48
Inputs = Sequence[np.ndarray | None]


def require_tables(rows: int, rotary_dim: int, rotations: int, stated_by: str) -> None:
    """Raise UsageError for more rows than fp32 tells apart, EnvironmentMissing for tables that memory cannot hold."""
    require_positions(rows, stated_by)
    needed = rows * rotary_dim // 2 * (KEPT * rotations + WORKING)
    free = _free()
    if needed > free:
        raise EnvironmentMissing(
            f"Tables of {rows} positions need about {needed / 1e9:.3g} GB of memory ({stated_by}).",
            exists=f"{free / 1e9:.3g} GB are free here.",
            todo="Give a smaller --max-position, or use a machine with more memory.",
        )


def _free() -> int:
    """Bytes that can still be had: what the machine has, or as far as this process may grow."""
    free = psutil.virtual_memory().available
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    except ImportError:  # no such limits on this system
        return free
    return free if limit == resource.RLIM_INFINITY else max(0, min(free, limit - psutil.Process().memory_info().vms))


def refusal(op_type: str, inputs: Inputs, attributes: Mapping[str, object]) -> str:
    """Why an operator is not to be run on `inputs`, as the end of a sentence; "" where nothing speaks against it."""
    if op_type in NEVER:
        return "it is not evaluated here"
    count = elements(op_type, inputs, attributes)
    most = MOST_LOOPS if op_type in LOOPING else MOST_ELEMENTS
    if count > most:
        return f"it would make {count:.3g} elements"
    if op_type in ("MatMul", "Gemm") and count * _inner(inputs) > MOST_PRODUCTS:
        return f"it would need {count * _inner(inputs):.3g} multiplications"
    return ""


def too_large(op_type: str, inputs: Inputs, attributes: Mapping[str, object]) -> bool:
    return bool(refusal(op_type, inputs, attributes))


def elements(op_type: str, inputs: Inputs, attributes: Mapping[str, object]) -> int:
    """At most how many elements `op_type` makes; what it does not fit makes none, as it fails."""
    arrays = [array for array in inputs if isinstance(array, np.ndarray)]
    try:
        count = _SIZES.get(op_type, _spread)(arrays, attributes)
    except (ArithmeticError, IndexError, TypeError, ValueError):
        return 0
    return max(0, int(count))


def _spread(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    """Element by element, and whatever keeps or drops elements."""
    ranks = max((array.ndim for array in arrays), default=0)
    shapes = [(1,) * (ranks - array.ndim) + array.shape for array in arrays]
    return prod(max(dims) for dims in zip(*shapes, strict=True)) if shapes else 1


def _numbers(array: np.ndarray) -> list[int]:
    return [int(number) for number in array.reshape(-1)[:64]]


def _range(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> float:
    start, limit, step = (float(array.reshape(-1)[0]) for array in arrays)
    return (limit - start) / step + 1


def _expand(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    shape, wanted = arrays[0].shape, _numbers(arrays[1])
    rank = max(len(shape), len(wanted))
    padded = [(1,) * (rank - len(dims)) + tuple(dims) for dims in (shape, wanted)]
    return prod(max(abs(a), abs(b)) for a, b in zip(*padded, strict=True))


def _tile(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    return arrays[0].size * prod(max(0, times) for times in _numbers(arrays[1]))


def _pad(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    added = _numbers(arrays[1])
    if len(arrays) > 3 or len(added) != 2 * arrays[0].ndim:  # only some axes are padded
        return prod(dim + sum(map(abs, added)) for dim in arrays[0].shape)
    ends = zip(added[: len(added) // 2], added[len(added) // 2 :], strict=True)
    return prod(dim + abs(before) + abs(after) for dim, (before, after) in zip(arrays[0].shape, ends, strict=True))


def _gather(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    data, indices = arrays[:2]
    return data.size // max(1, data.shape[int(attributes.get("axis", 0))]) * indices.size


def _gather_nd(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    data, indices = arrays[:2]
    return indices.size // max(1, indices.shape[-1]) * prod(data.shape[indices.shape[-1] :])


def _matrix(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    a, b = arrays[:2]
    rows = a.size // max(1, min(a.shape[-2:], default=1))
    columns = b.size // max(1, min(b.shape[-2:], default=1))
    return rows * columns if max(a.ndim, b.ndim) <= 2 else _batched(a, b)


def _batched(a: np.ndarray, b: np.ndarray) -> int:
    outer = _spread([np.empty(a.shape[:-2], bool), np.empty(b.shape[:-2], bool)], {})
    return outer * (a.shape[-2] if a.ndim > 1 else 1) * (b.shape[-1] if b.ndim > 1 else 1)


def _inner(inputs: Inputs) -> int:
    return max(inputs[0].shape[-2:], default=1)


def _einsum(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    """Every index of the equation once: an upper bound of the result, and what has to be gone through."""
    equation = attributes["equation"]
    text = equation.decode() if isinstance(equation, bytes) else str(equation)
    sizes: dict[str, int] = {}
    for term, array in zip(text.split("->")[0].replace(" ", "").split(","), arrays, strict=True):
        letters = term.replace("...", "")
        if len(letters) != array.ndim:
            sizes[f"...{len(sizes)}"] = array.size
        sizes |= {letter: max(size, sizes.get(letter, 1)) for letter, size in zip(letters, array.shape, strict=False)}
    return prod(sizes.values())


def _one_hot(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> int:
    return arrays[0].size * _numbers(arrays[1])[0]


def _resize(arrays: list[np.ndarray], attributes: Mapping[str, object]) -> float:
    last = arrays[-1]
    if last.dtype.kind in "iu":
        return prod(_numbers(last))
    return arrays[0].size * prod(float(scale) for scale in last.reshape(-1)[:8])


_SIZES = {
    "Concat": lambda arrays, attributes: sum(array.size for array in arrays),
    "ConstantOfShape": lambda arrays, attributes: prod(_numbers(arrays[0])),
    "Einsum": _einsum,
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gemm": _matrix,
    "MatMul": _matrix,
    "NonZero": lambda arrays, attributes: arrays[0].size * max(1, arrays[0].ndim),
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": lambda arrays, attributes: arrays[0].size,
    "Resize": _resize,
    "Slice": lambda arrays, attributes: arrays[0].size,
    "Squeeze": lambda arrays, attributes: arrays[0].size,
    "Tile": _tile,
    "Unsqueeze": lambda arrays, attributes: arrays[0].size,
    "Upsample": _resize,
}
