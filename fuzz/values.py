"""The odd values that edits put into documents and graphs.

A recipe is JSON, so values that JSON has no room for are written as a mapping with one key that begins with "$";
`made` and `as_json` turn them into what they stand for.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

# Files that no command may open: the canary lies beside the box a command runs in (see `worker`).
OUTSIDE = ("../canary/secret.txt", "../../canary/secret.txt", "/etc/hostname", "{canary}/secret.txt", "/dev/zero")
TEXTS = (
    "", " ", ".", "..", "/", "a/b", "a\\b", "nul\x00byte", "\x1b]0;PWN\x07", "\x1b[31mred", "evilmod:make", "os:getcwd",
    "subprocess:getoutput", "é́", "𝕏", "\ud7ff", "null", "NaN", "-1", "10000", "float16", "bfloat16", "default",
    "linear", "yarn", "longrope", "llama", "model.onnx", "rope_deploy.json", "model.safetensors", "position_ids",
    *OUTSIDE,
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 7, 8, 63, 64, 127, 128, 255, 256, 1000, 4096, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32,
    2**53, 2**63 - 1, -(2**63), 10**9, 10**10, 10**12, 10**18, 0.0, -0.0, 0.5, 1.5, 1e-300, 1e300, -1e300, 1e-45,
    {"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}, {"$digits": 5000},
)  # fmt: skip
OTHERS = (
    None, True, False, [], {}, [[]], [0], [None], {"": 0}, {"a": {}}, [0] * 300, {"$deep": 50}, {"$deep": 5000},
    {"$long": 100_000},
)  # fmt: skip
# Sizes of dimensions and lengths, where a graph or an array takes a whole number.
SIZES = tuple(n for n in NUMBERS if isinstance(n, int) and -(2**63) <= n < 2**63)


def any_value(rng: random.Random) -> Any:
    """A text, a number or something else, as a recipe writes it."""
    return rng.choice(rng.choice((TEXTS, NUMBERS, NUMBERS, OTHERS)))


def made(value: Any) -> Any:
    """The value that a recipe's `value` stands for, where it is put into a field of a graph."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, size),) = value.items()
        if kind == "$float":
            return float(size)
        if kind == "$bytes":
            return bytes.fromhex(size)
        if kind == "$long":
            return "x" * size
    return value


def as_json(document: Any) -> str:
    """`document` as JSON text, with what its marked values stand for: Python's own writer refuses some of them."""
    text = json.dumps(document)
    for mark, written in _WRITTEN.items():
        text = re.sub(r'\{"\$' + mark + r'": "?(-?\w+)"?\}', lambda found, written=written: written(found[1]), text)
    return text


_WRITTEN = {
    "float": lambda name: {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[name],
    "digits": lambda size: "1" + "0" * int(size),
    "long": lambda size: '"' + "x" * int(size) + '"',
    "deep": lambda size: "[" * int(size) + "0" + "]" * int(size),
}
