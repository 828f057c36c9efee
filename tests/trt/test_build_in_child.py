import time

import psutil
import pytest

from rope_deploy.errors import GraphRefused, RefusedNode, VendorError
from rope_deploy.trt.build_in_child import build_in_child
from rope_deploy.trt.engine_request import BuildResult, EngineRequest, Progress


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr("rope_deploy.trt.build_in_child.BUILD", "tests.trt.stand_in:build")


def run(how, tmp_path, progress=None, flavor="rtx"):
    profiles = ({"x": ((1,), (2,), (3,))},)
    return build_in_child(EngineRequest(flavor, model=how, output=str(tmp_path / "out"), profiles=profiles), progress)


def test_a_finished_build_gives_its_version_time_and_warnings(tmp_path):
    assert run("finish", tmp_path) == BuildResult("1.2", 0.5, ("out of ideas",))


@pytest.mark.parametrize(("flavor", "value"), [("rtx", "1"), ("tensorrt", "0")])
def test_polygraphy_learns_the_flavour_from_the_environment_of_the_child(tmp_path, flavor, value):
    seen = []
    run("finish", tmp_path, seen.append, flavor)
    assert seen == [Progress(value)]


def test_an_abort_of_the_library_becomes_an_error_with_its_last_words(tmp_path):
    with pytest.raises(VendorError, match="SIGABRT") as caught:
        run("abort", tmp_path)
    for words in ("terminate called", "out of ideas", "the library prints"):
        assert words in caught.value.exists


def test_a_killed_child_hints_at_memory(tmp_path):
    with pytest.raises(VendorError, match="SIGKILL") as caught:
        run("killed", tmp_path)
    assert "memory" in caught.value.todo


def test_a_child_that_leaves_without_a_verdict_is_an_error(tmp_path):
    with pytest.raises(VendorError, match="exit code 3"):
        run("exit", tmp_path)


def test_a_refusal_arrives_with_its_nodes(tmp_path):
    with pytest.raises(GraphRefused, match="It failed") as caught:
        run("refuse", tmp_path)
    assert caught.value.nodes == (RefusedNode("Op", "name", ("inside",)),) and caught.value.todo == "Another."


def test_a_full_disk_arrives_as_what_it_is(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught:
        run("disk", tmp_path)
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "out"))


def test_an_interrupt_ends_the_child(tmp_path):
    def interrupt(progress):
        while not (tmp_path / "out").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    before, started = set(psutil.Process().children()), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run("hang", tmp_path, interrupt)
    assert time.monotonic() - started < 60
    assert set(psutil.Process().children()) <= before, "no child is left, dead or alive"
