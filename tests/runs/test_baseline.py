"""What a baseline may be held against, and when a ratio is called slower."""

from dataclasses import replace
from pathlib import Path

import pytest

from rope_deploy.errors import ConfigError, UsageError
from rope_deploy.options import BenchOptions
from rope_deploy.report.json_format import to_json
from rope_deploy.results.records import ContestantRecord, LatencyRecord, Report
from rope_deploy.runs.baseline import admit_baseline, gates_against, key, write_baseline

MACHINE = "Linux x86_64, Some Processor, 4 cores"
KEY = ("ort", "onnx", "decode @8")


def record(ratio=0.5, spread=0.02, **changes):
    low, high = ratio * (1 - spread), ratio * (1 + spread)
    made = LatencyRecord("ort", "onnx", "decode @8", 1, 9, 1.0, 0.9, 1.1, ratio, low, high, "torch")
    return replace(made, **changes)


def report(*latencies, **changes):
    return replace(Report("t", "hub/model", "2026-01-01T00:00:00", MACHINE, {}, 1.0, latencies=latencies), **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "baseline.json"


def admitted(path, **changes):
    asked = {
        "machine": MACHINE,
        "source": "elsewhere/model",
        "wanted": [KEY],
        "reference": "torch",
        "threads": None,
        "other_machine": "refuse",
        "update": "Update it.",
    }
    return admit_baseline(path, **{**asked, **changes})


def verdict(now, before, limit=BenchOptions.max_slowdown, path=None):
    write_baseline(report(before), path)
    (gate,) = gates_against([now], [], admitted(path), [KEY], limit)
    return gate


def test_the_same_ratio_passes_and_says_what_it_was_held_against(path):
    gate = verdict(record(), record(), path=path)
    assert (gate.name, gate.verdict, gate.limit) == ("max_slowdown: ort onnx decode @8", "passed", "1.20×")
    assert gate.measured.startswith("1.00× (0.97 to 1.03)")


def test_a_slowdown_beyond_the_limit_and_the_noise_fails(path):
    gate = verdict(record(0.7), record(0.5), path=path)
    assert gate.verdict == "failed" and gate.measured.startswith("1.40×")


def test_a_slowdown_within_the_limit_passes(path):
    assert verdict(record(0.6), record(0.5), path=path).verdict == "passed"
    assert verdict(record(0.6), record(0.5), limit=1.05, path=path).verdict == "failed"


@pytest.mark.parametrize("noisy", ["now", "before"])
def test_a_slowdown_that_noise_explains_is_not_judged(path, noisy):
    """Neither failed nor passed: the measured value is over the limit, and the other end of the noise is not."""
    now, before = record(0.7, 0.2 if noisy == "now" else 0.02), record(0.5, 0.2 if noisy == "before" else 0.02)
    gate = verdict(now, before, path=path)
    assert gate.verdict == "skipped" and gate.measured.startswith("unsettled: 1.40×") and "noise" in gate.measured


def test_what_is_above_the_limit_is_measured_again_and_only_that(path):
    slow, sound = record(0.7), record(0.5, workload="prefill 8")
    other = (*KEY[:2], "prefill 8")
    write_baseline(report(record(), sound), path)
    baseline, asked = admitted(path, wanted=[KEY, other]), []

    def again(keys):
        asked.append(set(keys))
        return [record(0.71), record(9.0, workload="prefill 8")]

    gates = gates_against([slow, sound], [], baseline, [KEY, other], measure_again=again)
    assert asked == [{KEY}, {KEY}]
    assert [gate.verdict for gate in gates] == ["failed", "passed"]


def test_a_quiet_measurement_within_the_limit_ends_the_measuring(path):
    write_baseline(report(record()), path)
    asked = []
    (gate,) = gates_against(
        [record(0.7)],
        [],
        admitted(path),
        [KEY],
        measure_again=lambda keys: asked.append(keys) or [record(0.5, waiting=0.01)],
    )
    assert (gate.verdict, len(asked)) == ("passed", 1)


def test_a_speedup_passes(path):
    assert verdict(record(0.1), record(0.5), path=path).verdict == "passed"


def test_what_could_not_be_timed_has_failed_with_its_reason(path):
    write_baseline(report(record()), path)
    skipped = ContestantRecord("ort", "onnx", "skipped", "no compiler")
    (gate,) = gates_against([], [skipped], admitted(path), [KEY])
    assert gate.verdict == "failed" and "no compiler" in gate.measured


def test_a_ratio_to_somebody_else_is_not_compared(path):
    gate = verdict(record(reference="ort/tables"), record(), path=path)
    assert gate.verdict == "failed" and "ort/tables" in gate.measured


@pytest.mark.parametrize(
    ("baseline", "asked", "says"),
    [
        (report(record(), machine="Another"), {}, "another machine: Another"),
        (report(record(), source="hub/other"), {}, "is of hub/other"),
        (report(record(workload="decode @16")), {}, "has no ort onnx decode @8"),
        (report(record(style="tables")), {}, "has no ort onnx decode @8"),
        (report(record(reference="ort/tables")), {}, "another reference: ort/tables, this run torch"),
        (report(record(threads=2)), {}, "another threads: 2"),
        (report(record()), {"threads": 2}, "another threads: chosen by the runtime, this run 2"),
        (report(record(rounds=4)), {}, "4 rounds: too few"),
        (report(record(ratio_low=None)), {}, "too few"),
        (report(record(ratio=1.0, ratio_low=None, ratio_high=None)), {}, "too few"),
        (report(replace(record(), ratio=None)), {}, "holds no ratios"),
        (report(), {}, "holds no ratios"),
        (report(record(ratio=0.0, ratio_low=0.0, ratio_high=0.0)), {}, "is damaged: decode @8 has the ratio 0"),
        (report(record(ratio_low=0.9)), {}, "is damaged"),
        (report(record(ratio_high=float("inf"))), {}, "is damaged"),
        (report(record(ratio_low=float("nan"))), {}, "is damaged"),
        (
            report(record(processor_ratio=0.0, processor_ratio_low=0.0, processor_ratio_high=0.0)),
            {},
            "has the processor ratio 0",
        ),
        (report(record(waiting=-1.0)), {}, "kept waiting for -1 of its time"),
    ],
)
def test_a_baseline_that_does_not_fit_is_refused_with_the_remedy(path, baseline, asked, says):
    path.write_text(to_json(baseline))
    with pytest.raises(UsageError, match=says) as caught:
        admitted(path, **asked)
    assert "Update it." in caught.value.todo and caught.value.exit_code == 2


def test_a_baseline_of_another_schema_names_both_and_the_remedy(path):
    path.write_text(to_json(report(record())).replace('"schema_version": 3', '"schema_version": 1'))
    with pytest.raises(ConfigError, match="schema version 1") as caught:
        admitted(path)
    assert caught.value.todo == "Update it." and "reads version 3" in caught.value.exists


def test_another_machine_can_be_skipped_or_compared(path):
    write_baseline(report(record(0.1), machine="Another"), path)
    skipped = gates_against([record(0.5)], [], admitted(path, other_machine="skip"), [KEY])
    assert [(gate.verdict, "Another" in gate.measured) for gate in skipped] == [("skipped", True)]
    compared = gates_against([record(0.5)], [], admitted(path, other_machine="compare"), [KEY])
    assert [gate.verdict for gate in compared] == ["failed"]


def test_a_baseline_keeps_what_bears_on_latency_and_nothing_else(path, monkeypatch):
    full = report(record(rotation_share=0.2), notes=("a note",))
    write_baseline(full, path)
    from rope_deploy.runs.baseline import read_baseline

    kept = read_baseline(path, update="")
    assert [key(one) for one in kept.latencies] == [KEY] and kept.latencies[0].ratio == 0.5
    assert (kept.machine, kept.source, kept.notes) == (MACHINE, "hub/model", ())
    assert list(path.parent.iterdir()) == [path]


def test_an_update_that_breaks_leaves_the_old_baseline(path, monkeypatch):
    write_baseline(report(record(0.1)), path)
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("cut off")))
    with pytest.raises(RuntimeError):
        write_baseline(report(record(0.9)), path)
    monkeypatch.undo()
    assert admitted(path).ratios[KEY].ratio == 0.1
    assert list(path.parent.iterdir()) == [path]
