import gc
import time
from dataclasses import replace

import pytest

from rope_deploy.bench import Contestant, measure
from rope_deploy.bench.latency import WARMUP
from rope_deploy.errors import UsageError
from rope_deploy.runtimes import open_ort
from tests.runtimes.toy import ROWS, Twin, write_toy


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("bench") / "toy")


class Slow(Twin):
    """Takes a known time a run, and notes the order of runs in `log`."""

    def __init__(self, name, seconds, log=None):
        super().__init__()
        self.name, self.seconds, self.log = name, seconds, log if log is not None else []
        self.shapes = []

    def run(self, feeds, taps=False):
        self.log.append(self.name)
        self.shapes.append((feeds["input_ids"].shape[1], feeds["past_key_values.0.key"].shape[2]))
        time.sleep(self.seconds)
        return super().run(feeds, taps)


def test_ratio_finds_the_slower_one(manifest):
    fast, slow = Contestant(Slow("fast", 0.02), manifest), Contestant(Slow("slow", 0.06), manifest)
    records = measure([fast, slow], prompts=(4,), new=2, rounds=5, reference="fast")
    assert [(r.runtime, r.workload, r.tokens) for r in records] == [
        ("fast", "prefill 4", 4),
        ("slow", "prefill 4", 4),
        ("fast", "decode @4", 1),
        ("slow", "decode @4", 1),
    ]
    for record in records:
        assert record.p10_ms <= record.median_ms <= record.p90_ms and record.rounds == 5
        assert record.ratio == 1.0 if record.runtime == "fast" else 1.8 < record.ratio < 4
        assert record.tokens_per_second == pytest.approx(record.tokens / record.median_ms * 1e3)


def test_rounds_are_interleaved_and_begin_in_turn(manifest):
    log = []
    both = [Contestant(Slow(name, 0, log), manifest) for name in ("a", "b")]
    measure(both, prompts=(2,), new=0, rounds=3)
    assert log == ["a"] * WARMUP + ["b"] * WARMUP + [*"abbaab"]  # the warm-up, and three rounds


def test_decode_appends_to_the_same_cache_in_every_round(manifest):
    runtime = Slow("a", 0)
    measure([Contestant(runtime, manifest)], prompts=(6,), new=3, rounds=2)
    prefills, steps = WARMUP + 2, [(1, 6), (1, 7), (1, 8)]
    assert runtime.shapes == [(6, 0)] * prefills + [(6, 0)] + steps * (WARMUP + 2)


def test_decode_is_told_per_token(manifest):
    _, decode = measure([Contestant(Slow("a", 0.05), manifest)], prompts=(2,), new=4, rounds=3)
    assert (decode.tokens, decode.workload) == (1, "decode @2")
    assert 50 <= decode.median_ms < 150  # 200 together; a busy machine adds some


def test_graph_without_cache_is_timed_on_prefill_alone(manifest):
    class Cacheless(Twin):
        def run(self, feeds, taps=False):
            assert set(feeds) == {"input_ids", "attention_mask", "position_ids"}
            return super().run(feeds, taps)

    plain = replace(manifest, cache=False, inputs=manifest.inputs[:3], outputs=manifest.outputs[:1])
    records = measure([Contestant(Cacheless(), plain)], prompts=(4,), rounds=2)
    assert [record.workload for record in records] == ["prefill 4"]


def test_garbage_collection_is_off_while_timing_and_on_again_after_a_crash(manifest):
    class Crashing(Twin):
        runs = 0

        def run(self, feeds, taps=False):
            self.runs += 1
            assert gc.isenabled() == (self.runs <= WARMUP)
            if self.runs == WARMUP + 2:
                raise RuntimeError
            return super().run(feeds, taps)

    with pytest.raises(RuntimeError):
        measure([Contestant(Crashing(), manifest)], prompts=(2,), rounds=5)
    assert gc.isenabled()


def test_onnx_runtime_styles_are_timed_side_by_side(tmp_path):
    styles = ("onnx", "contrib")
    manifests = {style: write_toy(tmp_path / style, style) for style in styles}
    with open_ort(tmp_path / "onnx", threads=1) as one, open_ort(tmp_path / "contrib", threads=1) as other:
        runtimes = dict(zip(styles, (one, other)))
        contestants = [Contestant(runtimes[style], manifests[style], style) for style in styles]
        records = measure(contestants, prompts=(16,), rounds=4, reference="ort/onnx")
    assert {(r.style, r.workload) for r in records} == {(s, w) for s in styles for w in ("prefill 16", "decode @16")}
    assert all(record.median_ms > 0 for record in records)


def test_progress_hears_every_round(manifest):
    heard = []
    contestant = Contestant(Twin(), manifest)
    measure([contestant], prompts=(3,), rounds=2, progress=lambda *said: heard.append(said))
    assert heard == [("prefill 3", 1, 2), ("prefill 3", 2, 2), ("decode @3", 1, 2), ("decode @3", 2, 2)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reference": "genai"}, "There is no reference 'genai'(.|\n)*twin"),
        ({"prompts": (1, ROWS + 1), "new": 0}, f"{ROWS + 1} tokens do not fit"),
        ({"prompts": (ROWS,), "new": 1}, f"{ROWS + 1} tokens do not fit"),
        ({"new": -1}, "at least one"),
        ({"rounds": 0}, "at least one"),
        ({"prompts": (0,)}, "at least one"),
        ({"prompts": ()}, "at least one"),
        ({"prompts": (4, 4)}, "twice"),
    ],
)
def test_impossible_requests_are_refused_before_anything_runs(manifest, options, says):
    class Untouched(Twin):
        def run(self, feeds, taps=False):
            raise AssertionError("it ran")

    with pytest.raises(UsageError, match=says):
        measure([Contestant(Untouched(), manifest)], **{"prompts": (4,), **options})


def test_two_contestants_of_one_name_are_refused(manifest):
    with pytest.raises(UsageError, match="Two contestants are called twin/onnx"):
        measure([Contestant(Twin(), manifest, "onnx")] * 2)


def test_every_length_is_prefilled_and_every_context_decoded(manifest):
    records = measure([Contestant(Twin(), manifest)], prompts=(2, 5), new=1, rounds=1)
    assert [record.workload for record in records] == ["prefill 2", "prefill 5", "decode @2", "decode @5"]


@pytest.fixture
def clock(monkeypatch):
    """Time passes by sleeping alone: no other work of the machine is in it."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def test_a_ratio_comes_with_its_reference_and_an_interval_around_it(manifest, clock):
    pair = [Contestant(Slow("fast", 0.002), manifest), Contestant(Slow("slow", 0.004), manifest)]
    fast, slow = measure(pair, prompts=(2,), new=0, rounds=6, reference="fast", threads=3)
    assert (fast.ratio_low, fast.ratio, fast.ratio_high) == (1, 1, 1)
    assert 1 < slow.ratio_low <= slow.ratio <= slow.ratio_high
    assert slow.ratio == pytest.approx(2)
    assert {record.reference for record in (fast, slow)} == {"fast"} and slow.threads == 3


def test_without_a_reference_there_is_no_ratio(manifest):
    (record,) = measure([Contestant(Twin(), manifest)], prompts=(2,), new=0, rounds=1)
    assert (record.ratio, record.ratio_low, record.ratio_high, record.reference) == (None, None, None, "")
