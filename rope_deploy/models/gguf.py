"""What transformers does not say about a GGUF file: whether it is one, and whether it would lose its scaling rule.

llama.cpp keeps the scaled frequencies of Llama 3 and LongRoPE as tensors and the other rules as `rope.scaling.*`.
transformers reads neither (gpt-oss excepted) and would load a model with a plain, wrong rotation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rope_deploy.errors import ModelError

MAGIC = b"GGUF"
HEAD = 1 << 26  # names and settings come first; even large vocabularies take a few megabytes
FACTORS = (b"rope_freqs.weight", b"rope_factors_long.weight", b"rope_factors_short.weight")
# Behind the name of the architecture; then the type of the setting, a string (8).
SCALING = b".rope.scaling.type\x08\0\0\0"


def check_gguf(path: Path) -> None:
    """Raise ModelError unless `path` is a GGUF file whose rotation transformers would load right."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if not head.startswith(MAGIC):
        raise ModelError(
            f"{path} is not a GGUF file.",
            exists=f"It begins with {head[:4]!r}, not {MAGIC!r}." if head else "It is empty.",
            todo="Compare its size with the original and copy it again.",
        )
    if scaling := list(_scaling(head)):
        raise ModelError(
            f"{path} scales its rotation ({', '.join(scaling)}), and transformers does not read that from a GGUF file.",
            exists="It would load with plain frequencies and answer wrongly.",
            todo="Give the original model as a Hugging Face folder, whose config.json states the rule.",
        )


def _scaling(head: bytes) -> Iterator[str]:
    yield from (name.decode() for name in FACTORS if name in head)
    start = -1
    while (start := head.find(SCALING, start + 1)) >= 0:
        text = start + len(SCALING) + 8  # behind its own length
        length = int.from_bytes(head[text - 8 : text], "little")
        kind = head[text : text + min(length, 32)].decode(errors="replace")
        if kind != "none" and not head.endswith(b"gpt-oss", 0, start):
            yield f"rope.scaling.type = {kind}"
