"""An engine and its manifest: which one describes which, and what lies at their places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rope_deploy.artifact import FileInfo, hash_file, write_utf8
from rope_deploy.errors import ConfigError, UsageError
from rope_deploy.runs.inspect import inspect_subject
from rope_deploy.trt import (
    EngineManifest,
    engine_mismatch,
    load_engine_manifest,
    manifest_path,
    refuse_foreign_engine,
)
from rope_deploy.trt.engine_manifest import replacing_engine
from tests.runtimes.toy import write_toy
from tests.trt.graphs import engine_of


def manifest(content: bytes, folder: Path, **changes) -> EngineManifest:
    (folder / "content").write_bytes(content)
    engine: FileInfo = hash_file(folder / "content")
    (folder / "content").unlink()
    made = EngineManifest("m.onnx", {}, "onnx", "float32", "rtx", ("8.9",), (), (), engine, 1.0)
    return replace(made, **changes)


@pytest.fixture
def engine(tmp_path) -> Path:
    path = tmp_path / "e.engine"
    path.write_bytes(b"first")
    write_utf8(manifest_path(path), manifest(b"first", tmp_path, chosen="first").to_json())
    return path


def test_an_engine_that_is_described_has_no_hazard(engine):
    assert engine_mismatch(engine, load_engine_manifest(engine)) == ""
    assert inspect_subject(str(engine)).hazards == ()


def test_a_missing_engine_is_said(engine):
    engine.unlink()
    assert engine_mismatch(engine, load_engine_manifest(engine)) == "missing"
    assert inspect_subject(str(engine)).hazards[0].startswith("The engine is missing")


@pytest.mark.parametrize("content", [b"second", b"firs", b"First"])
def test_a_changed_engine_is_said(engine, content):
    engine.write_bytes(content)
    assert engine_mismatch(engine, load_engine_manifest(engine)) == "changed"
    assert inspect_subject(str(engine)).hazards[0].startswith("Changed since the build")


def test_while_two_engines_change_places_the_manifest_fits_the_one_that_is_there(engine, tmp_path):
    with replacing_engine(engine, manifest(b"second", tmp_path, chosen="second")):
        assert load_engine_manifest(engine).chosen == "first"
        engine.write_bytes(b"second")
        assert load_engine_manifest(engine).chosen == "second"
    assert load_engine_manifest(engine).previous is None, "afterwards it holds one"
    engine.write_bytes(b"first")
    assert engine_mismatch(engine, load_engine_manifest(engine)) == "changed"


def test_an_engine_that_does_not_come_leaves_no_manifest_of_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing_engine(tmp_path / "e.engine", manifest(b"new", tmp_path)):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
def test_somebody_else_s_file_at_the_manifest_s_place_stays(tmp_path, force):
    write_toy(tmp_path / "toy", "tables")
    (tmp_path / "e.engine.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=r"e\.engine\.json is in the way"):
        engine_of(tmp_path / "toy", tmp_path / "e.engine", flavor="rtx", force=force)
    assert (tmp_path / "e.engine.json").read_text() == '{"mine": 1}'


def test_an_engine_of_ours_may_be_replaced_where_nobody_named_it_and_nothing_else(engine):
    refuse_foreign_engine(engine)
    refuse_foreign_engine(engine.with_name("free.engine"))
    engine.with_name("mine.engine").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"mine\.engine is in the way"):
        refuse_foreign_engine(engine.with_name("mine.engine"))


@pytest.mark.parametrize("content", [b"# a text\n", b"PK\x03\x04\0\0", b"\x7fELF\0"])
def test_what_is_no_timing_cache_is_not_taken_for_one(tmp_path, content):
    write_toy(tmp_path / "toy", "tables")
    (tmp_path / "README.md").write_bytes(content)
    with pytest.raises(ConfigError, match=r"README\.md: what lies there is no timing cache"):
        engine_of(tmp_path / "toy", tmp_path / "e.engine", flavor="tensorrt", timing_cache=tmp_path / "README.md")
    assert (tmp_path / "README.md").read_bytes() == content


def test_nor_is_what_lies_where_the_timing_cache_goes_by_itself(tmp_path):
    write_toy(tmp_path / "toy", "tables")
    (tmp_path / "e.engine.cache").write_text("mine")
    with pytest.raises(ConfigError, match=r"e\.engine\.cache: what lies there is no timing cache"):
        engine_of(tmp_path / "toy", tmp_path / "e.engine", flavor="tensorrt")
    assert (tmp_path / "e.engine.cache").read_text() == "mine"
