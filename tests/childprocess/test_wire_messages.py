"""Arrays come out of a message as they went in, and a message cut short is the end."""

import io
import os
import time

import numpy as np
import pytest

from rope_deploy.childprocess.wire_messages import LENGTH, DamagedMessage, receive, send


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 5), (1, 2, 3, 4)])
def test_arrays_come_out_as_they_went_in(dtype, shape):
    value = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    sent = {"a": value, "transposed": value.T, "strided": np.stack([value, value], -1)[..., 0]}
    stream = io.BytesIO()
    send(stream, ("result", sent))
    stream.seek(0)
    kind, arrays = receive(stream)
    assert kind == "result" and list(arrays) == list(sent)
    for name, want in sent.items():
        np.testing.assert_array_equal(arrays[name], want)
        assert arrays[name].dtype == want.dtype and arrays[name].shape == want.shape and arrays[name].flags.writeable


def test_the_memory_of_an_array_is_sent_once_and_unchanged():
    value, stream = np.arange(1 << 16), io.BytesIO()
    send(stream, ("result", value))
    assert value.tobytes() in stream.getvalue()
    assert len(stream.getvalue()) < value.nbytes + 1000


def test_a_message_cut_short_is_the_end():
    stream = io.BytesIO()
    send(stream, {"a": np.ones(10)})
    for size in (0, 4, 20, len(stream.getvalue()) - 1):
        with pytest.raises(EOFError):
            receive(io.BytesIO(stream.getvalue()[:size]))


@pytest.mark.parametrize(
    "content",
    [
        LENGTH.pack(1 << 62) + LENGTH.pack(0),
        LENGTH.pack(4) + LENGTH.pack(1 << 62),
        LENGTH.pack(4) + LENGTH.pack(1) + LENGTH.pack(1 << 62),
        LENGTH.pack(4) + LENGTH.pack(0) + b"libr",
    ],
    ids=["pickle", "count", "buffer", "content"],
)
def test_damaged_bytes_are_refused_before_memory_is_taken_for_them(content):
    with pytest.raises(DamagedMessage):
        receive(io.BytesIO(content))


def test_a_reader_gives_up_in_time_also_in_the_middle_of_a_message():
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb", 0) as stream, os.fdopen(writes, "wb", 0) as other:
        other.write(b"beg")
        with pytest.raises(TimeoutError):
            receive(stream, time.monotonic() + 0.1)
