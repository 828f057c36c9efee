"""The benchmarks judge others, so each of their judgements is tried on a planted fault."""

import click
import ml_dtypes
import numpy as np
import pytest

from benchmarks import common, latency, precision, rotation, tabulate

SHAPE = rotation.Shape(2, 3, 4, 2, 8)


def test_every_contestant_takes_a_turn_in_every_round() -> None:
    turns: list[str] = []
    calls = {name: lambda name=name: turns.append(name) for name in "abc"}
    spent = common.interleaved(calls, 5, repeats=2, warmup=0)
    rounds = [turns[start : start + 6] for start in range(0, len(turns), 6)]
    assert all(sorted(taken) == list("aabbcc") for taken in rounds)
    assert {name: len(times) for name, times in spent.items()} == {"a": 5, "b": 5, "c": 5}


def test_ratios_are_taken_within_a_round() -> None:
    """Both three times as slow in the second round: a busy machine, not a slower contestant."""
    rows = common.summary({"ours": [2.0, 6.0, 2.0], "peer": [1.0, 3.0, 1.0]}, ("peer",))
    assert rows["ours"]["ratio_to"]["peer"] == 2.0


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_a_graph_with_wrong_logits_is_not_timed(wrong: float) -> None:
    right = np.zeros((1, 2, 3))
    assert latency._error(right, right, "x") == 0
    with pytest.raises(click.ClickException, match="differ from PyTorch"):
        latency._error(right + wrong, right, "x")


def test_caches_are_told_apart_by_layer_and_kind_in_every_dialect() -> None:
    ours = ["present.10.value", "present.2.key", "present.2.value", "present.10.key"]
    theirs = ["output.past_key_values.layers.1.values", "output.past_key_values.layers.1.keys"]
    assert sorted(ours, key=latency._place) == [ours[1], ours[2], ours[3], ours[0]]
    assert sorted(theirs, key=latency._place) == theirs[::-1]


def test_every_spelling_rotates_alike() -> None:
    rows = rotation.measure(SHAPE, rounds=1, threads=1)
    assert len(rows) == 6
    assert max(row["max_error"] for row in rows.values()) < 1e-6


def test_a_spelling_with_a_wrong_sign_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = (rotation.doubled, rotation.swapped_pairs)
    monkeypatch.setitem(rotation.SPELLINGS, rotation.SWAPPED, unsigned)
    with pytest.raises(click.ClickException, match="swapped pairs"):
        rotation.measure(SHAPE, rounds=1, threads=1)


def test_distance_counts_what_is_not_the_nearest_number() -> None:
    truth = np.linspace(1, 2, 64).reshape(1, 1, 8, 8)
    nearest = truth.astype(ml_dtypes.bfloat16)
    problem = precision.Problem(None, "bfloat16", nearest, nearest, (truth, truth))
    assert precision.distance((nearest, nearest), problem)["not_nearest"] == 0
    one_off = nearest.copy()
    one_off[0, 0, 0, 0] += ml_dtypes.bfloat16(2**-7)
    assert precision.distance((nearest, one_off), problem)["not_nearest"] == 1 / 128


def test_a_missed_target_is_said_to_be_missed() -> None:
    assert tabulate.Target("time", 1.05, 1.05).met
    assert not tabulate.Target("time", 1.06, 1.05).met
    assert not tabulate.Target("texts", 4, 5, at_least=True).met
    assert not tabulate.Target("time", float("nan"), 1.05).met
    assert "**not met**" in tabulate.Target("time", 1.06, 1.05).row()


def test_the_results_page_is_drawn_from_the_files_beside_it() -> None:
    """Run `python -m benchmarks.tabulate` after a benchmark."""
    found = tabulate.read(common.RESULTS)
    assert tabulate.render(found) == (common.RESULTS / "README.md").read_text()
    found["precision"]["dtypes"]["float16"]["q and k"]["PyTorch"]["max"] /= 2
    assert tabulate.render(found) != (common.RESULTS / "README.md").read_text()
