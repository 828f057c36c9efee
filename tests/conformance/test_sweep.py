"""A sweep goes on where it was left, part by part, and survives whatever becomes of one of them."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from conformance.families import engines, judge, peers, published, record, ropes
from conformance.families.census import select
from conformance.families.record import Record, StyleResult
from conformance.families.sweep import Sweep
from conformance.families.workers import Job, run

LLAMA = select(["llama"])


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Judging takes no time, and leaves a mark each time; so do the other parts."""

    def styles_of(family, styles, work, out) -> None:
        (out / "marks").open("a").write("styles ")
        (work / "exported").mkdir()
        found = {style: StyleResult(style, "green", sites=4) for style in styles}
        settled = {"versions": record.versions(), "code": record.code_digest()}
        Record(family.name, family.category, family.model, "done", "green", expected=4, styles=found, **settled).write(
            out
        )

    def engine_of(family, work) -> None:
        (work / "engine.json").write_text(json.dumps({"verdict": "built", "style": "onnx", "reason": ""}))

    def ropes_of(family, types, styles, expected, work) -> None:
        (work / "ropes.json").write_text(json.dumps({name: {"verdict": "green"} for name in types}))

    def published_of(family, titles, styles, expected, work) -> None:
        (work / "published.json").write_text(json.dumps({name: {"verdict": "green"} for name in titles}))

    def peer_of(family, peer, work) -> None:
        (work / "peer.json").write_text(json.dumps({"verdict": "right", "reason": ""}))

    monkeypatch.setattr(judge, "judge", styles_of)
    monkeypatch.setattr(engines, "judge_engine", engine_of)
    monkeypatch.setattr(ropes, "judge_ropes", ropes_of)
    monkeypatch.setattr(published, "judge_published", published_of)
    monkeypatch.setattr(peers, "judge_peer", peer_of)


def sweep(out: Path, **options) -> list[Record]:
    return list(Sweep(out, ("tables",), **{"seconds": 30, **options}).run(LLAMA))


def marks(out: Path) -> int:
    return (out / "marks").read_text().count("styles")


def test_all_parts(tmp_path: Path, judged) -> None:
    (found,) = sweep(tmp_path, engines=True, ropes=True, published=True, peers=True)
    assert found.engine["verdict"] == "built"
    assert set(found.ropes) == set(ropes.TYPES)
    assert set(found.published) == set(published.PUBLISHED["llama"])
    assert set(found.peers) == set(peers.PEERS)
    assert record.read(tmp_path, "llama") == found


def test_briefly_one_published_rule_of_a_few_families(tmp_path: Path, judged) -> None:
    (found,) = sweep(tmp_path, published=True, briefly=True)
    assert [*found.published] == ["Llama 3.1"]
    (found,) = sweep(tmp_path, published=True)
    assert set(found.published) == set(published.PUBLISHED["llama"])


def test_what_is_done_is_not_done_again_and_what_is_missing_is(tmp_path: Path, judged) -> None:
    (first,) = sweep(tmp_path)
    assert sweep(tmp_path) == []
    (second,) = sweep(tmp_path, engines=True)
    assert marks(tmp_path) == 1
    assert not first.engine
    assert second.engine
    assert len(sweep(tmp_path, again=True)) == 1
    assert marks(tmp_path) == 2


def test_other_code_of_ours_keeps_the_peers_alone(tmp_path: Path, judged) -> None:
    (found,) = sweep(tmp_path, engines=True, peers=True)
    found.code = "older"
    found.peers["torch.onnx 18"]["reason"] = "kept"
    found.write(tmp_path)
    assert sweep(tmp_path, engines=True, peers=True) == []
    (found,) = sweep(tmp_path, peers=True, same_code=True)
    assert found.peers["torch.onnx 18"]["reason"] == "kept"
    assert not found.engine


def test_an_engine_that_hangs_leaves_the_rest(tmp_path: Path, judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "judge_engine", lambda *_: time.sleep(60))
    (found,) = sweep(tmp_path, engines=True, peers=True, seconds=0.5)
    assert found.engine["verdict"] == "timeout"
    assert found.verdict == "green"
    assert found.peers


def test_a_rope_type_that_crashes_leaves_the_others(tmp_path: Path, judged, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashing(family, types, styles, expected, work) -> None:
        found = {}
        for name in types:
            if name == "yarn":
                os.kill(os.getpid(), signal.SIGKILL)
            found[name] = {"verdict": "green"}
            (work / "ropes.json").write_text(json.dumps(found))

    monkeypatch.setattr(ropes, "judge_ropes", crashing)
    (found,) = sweep(tmp_path, ropes=True)
    assert found.ropes.pop("yarn") == {"verdict": "crash", "reason": "It was ended by SIGKILL."}
    assert {name: one["verdict"] for name, one in found.ropes.items()} == {
        name: "green" for name in ropes.TYPES if name != "yarn"
    }


def test_artifacts_are_kept_where_asked(tmp_path: Path, judged) -> None:
    (tmp_path / "out").mkdir()
    sweep(tmp_path / "out", keep=tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["llama"]
    assert (tmp_path / "kept" / "llama" / "exported").is_dir()


def test_two_at_a_time(tmp_path: Path) -> None:
    def plan(name: str):
        ended = yield Job(lambda: time.sleep(0.6), tmp_path / name, 20, 8000)
        return name, ended

    began = time.monotonic()
    assert {name for name, _ in run([plan("one"), plan("two")], jobs=2)} == {"one", "two"}
    assert time.monotonic() - began < 1.1


def test_children_end_with_the_sweep(tmp_path: Path) -> None:
    number = tmp_path / "number"

    def long() -> None:
        (tmp_path / "writing").write_text(str(os.getpid()))
        (tmp_path / "writing").rename(number)
        time.sleep(60)

    def until_that_runs() -> None:
        while not number.exists():
            time.sleep(0.01)

    def plan(work):
        yield Job(work, tmp_path / work.__name__, 20, 8000)

    under_way = run([plan(until_that_runs), plan(long)], jobs=2)
    next(under_way)
    child, began = int(number.read_text()), time.monotonic()
    os.kill(child, 0)  # it is there
    under_way.close()
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
