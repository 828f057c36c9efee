"""GGUF files whose own lengths are wrong: refused at once, whatever they claim."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from rope_deploy.errors import ModelError
from rope_deploy.models.loading.gguf_header import read_header

HUGE = 1 << 60


def text(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


def setting(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


ARCHITECTURE = setting("general.architecture", 8, text("llama"))


def file(path: Path, *settings: bytes, tensors: bytes = b"", count: int = 0, entries=None, version: int = 3) -> Path:
    number = len(settings) + 1 if entries is None else entries
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQ", version, count, number) + ARCHITECTURE + b"".join(settings) + tensors
    )
    return path


def test_settings_and_names_as_the_writer_of_gguf_wrote_them(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_rope_freq_base(500.0)
    writer.add_token_list(["a", "b"])
    writer.add_array("llama.attention.head_count", [1, 2, 3])
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(tmp_path / "a.gguf")
    assert (header.architecture, header.tensors) == ("llama", ("token_embd.weight",))
    assert header.settings["llama.rope.freq_base"] == 500.0
    assert header.settings["llama.attention.head_count"] == [1, 2, 3]
    assert header.settings["tokenizer.ggml.tokens"] is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("entries", "ends in the middle"),
        ("tensors", "ends in the middle"),
        ("bytes", "ends in the middle"),
        ("texts", "ends in the middle"),
        ("text", "ends in the middle"),
        ("nested", "a list of type 9"),
        ("kind", "of type 99"),
        ("twice", "states llama.rope.freq_base twice"),
        ("version", "version 1 of the format"),
        ("big-endian", "version 50331648"),
        ("alignment", "not a power of two"),
        ("axes", "has 99 dimensions"),
        ("elements", "which its type cannot have"),
        ("beyond", "lie behind its end"),
        ("type", "of type 4000"),
        ("utf8", "not UTF-8"),
    ],
)
def test_a_file_that_claims_what_it_has_not(tmp_path, name, said):
    path, base = tmp_path / "a.gguf", setting("llama.rope.freq_base", 6, struct.pack("<f", 1e4))

    def tensor(*shape: int, kind: int = 0, offset: int = 0, axes: int | None = None) -> bytes:
        number = len(shape) if axes is None else axes
        return text("t") + struct.pack(f"<I{len(shape)}QIQ", number, *shape, kind, offset)

    match name:
        case "entries":
            file(path, entries=HUGE)
        case "tensors":
            file(path, count=HUGE)
        case "bytes":
            file(path, setting("a", 9, struct.pack("<IQ", 0, HUGE)))
        case "texts":
            file(path, setting("a", 9, struct.pack("<IQ", 8, HUGE)))
        case "text":
            file(path, setting("a", 8, struct.pack("<Q", HUGE)))
        case "nested":
            file(path, setting("a", 9, struct.pack("<IQ", 9, 1)))
        case "kind":
            file(path, setting("a", 99, b"\0" * 8))
        case "twice":
            file(path, base, base)
        case "version":
            file(path, version=1)
        case "big-endian":
            file(path, version=3 << 24)
        case "alignment":
            file(path, setting("general.alignment", 4, struct.pack("<I", 0)))
        case "axes":
            file(path, tensors=tensor(axes=99), count=1)
        case "elements":
            file(path, tensors=tensor(HUGE, HUGE), count=1)
        case "beyond":
            file(path, tensors=tensor(64, 64), count=1)
        case "type":
            file(path, tensors=tensor(64, kind=4000), count=1)
        case "utf8":
            file(path, setting("a", 8, struct.pack("<Q", 2) + b"\xff\xfe"))
    began = time.monotonic()
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert said in caught.value.asked
    assert time.monotonic() - began < 5
