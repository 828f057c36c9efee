"""Every writer, killed before every change it makes: the old output or the new one, whole, and nothing left over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuzz.killing import changes, kill_before
from rope_deploy import api
from rope_deploy.artifact import (
    MANIFEST_NAME,
    changed_files,
    load_manifest,
    new_file,
    new_folder,
    new_graph,
    weights_name,
    write_utf8,
)
from rope_deploy.export import write
from rope_deploy.graph.rewrite import rewrite_graph
from rope_deploy.runs import ci
from rope_deploy.runs.baseline import write_baseline
from rope_deploy.runs.report_files import write_report
from rope_deploy.trt import engine_build, engine_mismatch, load_engine_manifest
from rope_deploy.trt.engine_request import BuildResult
from rope_deploy.trt.plugin import compile_library
from tests.families.prepared import prepared
from tests.report.sample import sample
from tests.runtimes.toy import write_toy
from tests.sweep import swept
from tests.trt.graphs import engine_of

Parts = tuple[object, ...]  # what a reader sees of each output that is whole by itself; None where there is none


@dataclass(frozen=True)
class Writer:
    """`act` is told whether to replace what is there; `read` is the reader, which raises if what it finds is mixed."""

    act: Callable[[Path, bool], object]
    read: Callable[[Path], Parts]
    before: Callable[[Path], object] | None = None


def visible(place: Path) -> list[str]:
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*"))


# Readers


def file(name: str) -> Callable[[Path], Parts]:
    return lambda place: ((place / name).read_bytes() if (place / name).exists() else None,)


def artifacts(*names: str) -> Callable[[Path], Parts]:
    """Each with what it holds; its manifest must fit it."""

    def one(path: Path) -> object:
        if not path.exists():
            return None
        manifest = load_manifest(path)
        assert changed_files(path, manifest) == []
        assert {entry.name for entry in path.iterdir()} == {MANIFEST_NAME, *manifest.files}
        return manifest.style, manifest.opset, {name: info.sha256 for name, info in manifest.files.items()}

    return lambda place: tuple(one(place / name) for name in names)


def graph(place: Path) -> Parts:
    """The graph and the weights that it names, as one."""
    path = place / "model.onnx"
    if not path.exists():
        return (None,)
    content = path.read_bytes()
    named = [one for one in place.glob("model.onnx.*data") if one.name.encode() in content]
    assert len(named) == 1, f"{visible(place)}: the graph's weights are not there"
    return ((content, named[0].read_bytes()),)


def engine_file(place: Path) -> Parts:
    path = place / "e.engine"
    if not path.exists():
        return (None,)
    manifest = load_engine_manifest(path)
    assert engine_mismatch(path, manifest) == "", "the manifest is another engine's"
    return ((manifest.engine, manifest.chosen),)


# Writers of tiny content


def tiny_file(content: str) -> Callable[..., object]:
    def act(place: Path, force: bool = False) -> None:
        with new_file(place / "made" / "out.txt", force=force) as unfinished:
            write_utf8(unfinished, content)

    return act


def tiny_artifact(style: str) -> Callable[..., object]:
    def act(place: Path, force: bool = False) -> None:
        with new_folder(place / "out", force=force) as unfinished:
            write_toy(unfinished, style)
            (unfinished / "config.json").unlink()

    return act


def tiny_graph(content: str) -> Callable[..., object]:
    def act(place: Path, force: bool = False) -> None:
        with new_graph(place / "model.onnx", force=force) as unfinished:
            weights = unfinished.with_name(weights_name("model.onnx", f"{ord(content[0]):012x}"))
            write_utf8(weights, content)
            write_utf8(unfinished, f"a graph with {weights.name}")

    return act


def plain_pair(place: Path) -> None:
    """As other exporters, and earlier versions, name weights."""
    (place / "model.onnx").write_text("a graph with model.onnx.data")
    (place / "model.onnx.data").write_text("old")


def tiny_engine(content: str) -> Callable[..., object]:
    def act(place: Path, force: bool = False) -> None:
        def build(request, progress) -> BuildResult:
            Path(request.output).write_text(content)
            return BuildResult("1", 1.0, ())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_build, "build_in_child", build)
            patch.setattr(engine_build, "require_flavor", lambda flavor: "1")
            engine_of(place.parent / "toy", place / "e.engine", flavor="rtx", chosen=content, force=force)

    return act


def tiny_plugin(place: Path, force: bool) -> None:
    def run(command, failure) -> None:
        if "--build" in command:
            Path(command[2], compile_library.LIBRARY).write_text("new library")

    tools = SimpleNamespace(nvcc=SimpleNamespace(version="1"), headers=SimpleNamespace(version="1"))
    tools.cmake = SimpleNamespace(path="cmake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_library, "_run", run)
        patch.setattr(compile_library, "find_tools", lambda root: tools)
        patch.setattr(compile_library, "_check_known", lambda wanted, tools: None)
        patch.setattr(compile_library, "_configure", lambda *_: [])
        patch.setattr(compile_library, "read_library", lambda path: None)
        compile_library.build_plugin(place / "p.so", build_folder=place.parent / "built", force=force)


def tiny_ci(style: str) -> Callable[..., object]:
    def act(place: Path, force: bool = False) -> None:
        output = SimpleNamespace(folder=str(place / "ci"), formats=("json", "markdown"))
        config = SimpleNamespace(output=output, bench=None)

        def run(config, options, **progress):
            tiny_artifact(style)(place / "ci", force)
            return replace(sample(), title=style, kind="ci"), place / "ci"

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ci, "load_config", lambda path: config)
            patch.setattr(ci, "run_config", run)
            api.run_ci("rope.toml", force=force)

    return act


def ci_outputs(place: Path) -> Parts:
    files = file("ci/report.json"), file("ci/report.md")
    return *artifacts("ci/out")(place), *(part for read in files for part in read(place))


TINY = {
    "a file": Writer(tiny_file("new"), file("made/out.txt")),
    "a file over another": Writer(tiny_file("new"), file("made/out.txt"), tiny_file("old")),
    "an artifact": Writer(tiny_artifact("onnx"), artifacts("out")),
    "an artifact over another": Writer(tiny_artifact("onnx"), artifacts("out"), tiny_artifact("tables")),
    "a graph": Writer(tiny_graph("new"), graph),
    "a graph over another": Writer(tiny_graph("new"), graph, tiny_graph("old")),
    "a graph over one that names its weights as others do": Writer(tiny_graph("new"), graph, plain_pair),
    "an engine": Writer(tiny_engine("new"), engine_file),
    "an engine over another": Writer(tiny_engine("new"), engine_file, tiny_engine("old")),
    "a plugin": Writer(tiny_plugin, file("p.so"), lambda place: (place / "p.so").write_text("old")),
    "a report": Writer(lambda place, force: write_report(sample(), place / "r.md"), file("r.md")),
    "a baseline": Writer(
        lambda place, force: write_baseline(sample(), place / "b.json"),
        file("b.json"),
        lambda place: write_baseline(replace(sample(), title="old"), place / "b.json"),
    ),
    "ci": Writer(tiny_ci("onnx"), ci_outputs),
    "ci over another": Writer(tiny_ci("onnx"), ci_outputs, tiny_ci("tables")),
}


def real_export(style: str) -> Callable[..., object]:
    return lambda place, force=False: write(prepared("llama"), place / "out", style, force=force)


def real_styles(opset: int) -> Callable[..., object]:
    def act(place: Path, force: bool = False) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rope_deploy.runs.export.prepare", lambda *_, **__: prepared("llama"))
            api.export(prepared("llama").loaded, place, styles=("tables", "contrib"), opset=opset, force=force)

    return act


def real_rewrite(style: str) -> Callable[..., object]:
    return lambda place, force=False: rewrite_graph(
        place.parent / "real" / "model.onnx", place / "model.onnx", style, force=force
    )


def in_place(place: Path, force: bool) -> None:
    rewrite_graph(place / "model.onnx", place / "model.onnx", "onnx", force=True)


REAL = {
    "an export over another": Writer(real_export("onnx"), artifacts("out"), real_export("tables")),
    "two styles over others": Writer(real_styles(21), artifacts("tables", "contrib"), real_styles(18)),
    "a rewrite over another": Writer(real_rewrite("onnx"), graph, real_rewrite("tables")),
    "a rewrite in its own place": Writer(in_place, graph, real_rewrite("tables")),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Where all of it happens, beside what engines are built and graphs rewritten from."""
    root = tmp_path_factory.mktemp("kills")
    write_toy(root / "toy", "tables")
    write(prepared("llama"), root / "real", "contrib", fused_attention=False)
    return root


def held_at_every_change(writer: Writer, root: Path, of_content: int = 1) -> list[str]:
    """Kill `writer` before each of its changes, look, and run it again; the changes.

    `of_content`: of those inside the hidden folder, which no reader sees, only every so many.
    """
    place = root / "place"

    def begin() -> None:
        for used in (place, root / "built", root / "other"):
            shutil.rmtree(used, ignore_errors=True)
        place.mkdir()
        if writer.before is not None:
            writer.before(place)

    force = writer.before is not None
    begin()
    old = writer.read(place)
    steps = changes(lambda: writer.act(place, force))
    new, names = writer.read(place), visible(place)
    assert all(after not in (before, None) for before, after in zip(old, new, strict=True))
    for number, step in enumerate(steps):
        if number % of_content and ("/new/" in step or step == "killing.fsync"):
            continue
        begin()
        assert kill_before(number, lambda: writer.act(place, force)), step
        found = writer.read(place)
        whole = all(part in both for part, *both in zip(found, old, new, strict=True))
        assert whole, f"killed before {step}: neither old nor new"
        if writer.act is in_place and writer.read(place) != old:
            continue  # it would take its own output for its input
        writer.act(place, True)
        assert writer.read(place) == new, f"killed before {step}"
        assert visible(place) == names, f"killed before {step}: something was left"
    return steps


@pytest.mark.parametrize("name", swept(TINY, ["an artifact", "a graph over another", "a report", "a plugin"]))
def test_a_kill_leaves_the_old_or_the_new_and_the_next_run_nothing_else(name, root):
    steps = held_at_every_change(TINY[name], root)
    assert len(steps) > 8, "the lock, the new content, its sync, the rename, the clearing up"


@pytest.mark.parametrize("name", swept(REAL, ()))
def test_so_it_is_with_real_graphs(name, root):
    assert len(held_at_every_change(REAL[name], root, of_content=25)) > 20


# What the test would notice


def renamed_one_by_one(place: Path, force: bool) -> None:
    """Graph and weights as they were written before: two renames, both names fixed."""
    for name in ("model.onnx.data", "model.onnx"):
        (place / f".{name}").write_text("new, with model.onnx.data")
    for name in ("model.onnx.data", "model.onnx"):
        (place / f".{name}").replace(place / name)


def moved_away_first(place: Path, force: bool) -> None:
    """A folder as it was replaced before: at one instant there is none."""
    tiny_artifact("onnx")(place / "made", True)
    (place / "out").rename(place / ".old")
    (place / "made" / "out").rename(place / "out")
    shutil.rmtree(place / ".old")
    (place / "made").rmdir()


def engine_last(place: Path, force: bool) -> None:
    """The manifest before its engine, as it was."""
    other = place.parent / "other"
    tiny_engine("new")(other, True)
    for name in ("e.engine.json", "e.engine"):
        (other / name).replace(place / name)


@pytest.mark.parametrize(
    "writer",
    [
        Writer(renamed_one_by_one, graph, plain_pair),
        Writer(moved_away_first, artifacts("out"), tiny_artifact("tables")),
        Writer(engine_last, engine_file, tiny_engine("old")),
    ],
)
def test_a_writer_with_an_instant_between_two_renames_is_found(writer, root):
    with pytest.raises(AssertionError, match=r"neither old nor new|not there|another engine's"):
        held_at_every_change(writer, root)


def test_a_writer_that_leaves_something_is_found(root):
    def act(place: Path, force: bool) -> None:
        (place / "half").write_text("half")
        tiny_file("new")(place, force)
        (place / "half").unlink()

    def clean(place: Path, force: bool) -> None:
        tiny_file("new")(place, True)

    steps = changes(lambda: act(fresh(root), False))
    place = fresh(root)
    assert kill_before(2, lambda: act(place, False)), steps
    clean(place, True)
    assert "half" in visible(place)


def fresh(root: Path) -> Path:
    shutil.rmtree(root / "place", ignore_errors=True)
    (root / "place").mkdir()
    return root / "place"
