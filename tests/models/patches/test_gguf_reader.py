"""A GGUF file is taken apart once for one load, and as gguf itself takes it apart."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from rope_deploy.models import load_model, patched
from rope_deploy.models.patches import gguf_reader
from rope_deploy.models.patches.gguf_reader import NAMES, READER, PlainReader
from tests import tiny
from tests.models.gguf_file import write_gguf


@pytest.fixture
def path(tmp_path):
    return write_gguf(tiny.build("llama"), tmp_path / "model.gguf")


def test_the_plain_reader_finds_what_gguf_finds(path):
    theirs, ours = READER(path), PlainReader(path)
    assert list(ours.fields) == list(theirs.fields)
    for name, field in theirs.fields.items():
        assert ours.fields[name].contents() == field.contents()
    assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]
    for one, other in zip(ours.tensors, theirs.tensors):
        np.testing.assert_array_equal(one.data, other.data)
    assert type(ours.data) is np.ndarray


def test_a_load_makes_one_reader_and_one_table_of_names(path, monkeypatch):
    made = []

    class Counted(PlainReader):
        def __init__(self, path, mode="r"):
            made.append(path)
            super().__init__(path, mode)

    monkeypatch.setattr(gguf_reader, "PlainReader", Counted)
    monkeypatch.setattr(gguf_reader, "NAMES", lambda *asked: made.append("names") or NAMES(*asked))
    load_model(str(path))
    assert made == [str(path), "names"]


def test_the_next_load_reads_the_file_again(path):
    before = load_model(str(path)).model.model.embed_tokens.weight.clone()
    write_gguf(tiny.build("llama", seed=1), path)
    assert not before.equal(load_model(str(path)).model.model.embed_tokens.weight)


def test_nothing_is_remembered_when_a_load_ends(path):
    with pytest.raises(ZeroDivisionError), patched(None, "load"):
        assert gguf.GGUFReader(path) is gguf.GGUFReader(path)
        raise ZeroDivisionError
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == (READER, NAMES)
    first, second = patched(None, "load"), patched(None, "load")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == (READER, NAMES)
