"""A runtime in another process answers alike, and when it dies only its call does."""

import os
import time

import numpy as np
import pytest

from rope_deploy.errors import ConfigError, InternalFault, PositionOutOfRange, RuntimeCrashed, UsageError
from rope_deploy.parity import check
from rope_deploy.runtimes import Target, open_in_child, open_isolated, open_ort
from tests.runtimes.toy import Twin, write_toy

pytestmark = pytest.mark.children
DEADLY = "tests.runtimes.deadly:open_deadly"


def feeds(rows=1, tokens=4):
    past = {
        f"past_key_values.{n}.{part}": np.zeros((rows, 2, 0, 16), np.float32)
        for n in (0, 1)
        for part in ("key", "value")
    }
    ids = np.arange(rows * tokens).reshape(rows, tokens)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": ids % tokens, **past}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("isolated") / "toy"
    write_toy(folder)
    return folder


@pytest.fixture(scope="module")
def manifest(folder):
    return write_toy(folder)


def deadly(folder, how):
    return open_isolated("deadly", DEADLY, {"folder": str(folder), "how": how})


def test_it_answers_as_in_this_process(folder):
    with (
        open_ort(folder, taps=True) as near,
        open_in_child("ort", Target(folder, taps=True, verify=True)) as far,
    ):
        assert (far.name, far.taps) == ("ort", True)
        for taps in (False, True):
            ours, theirs = near.run(feeds(2), taps), far.run(feeds(2), taps)
            assert list(ours) == list(theirs)
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name])
                assert ours[name].dtype == theirs[name].dtype


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGABRT", "SIGKILL", "exit"])
def test_a_death_is_an_error_that_says_how_and_the_next_call_runs(folder, how):
    with deadly(folder, how) as runtime:
        runtime.run(feeds(1))
        with pytest.raises(RuntimeCrashed) as caught:
            runtime.run(feeds(3))
        assert ("exit code 3" if how == "exit" else how) in caught.value.asked and "deadly" in caught.value.asked
        assert "so this is how it ends" in caught.value.exists
        assert ("memory" in caught.value.todo) == (how == "SIGKILL")
        assert runtime.run(feeds(1))["logits"].shape[:2] == (1, 4)


def test_errors_of_the_other_process_are_errors_of_this_one(folder):
    with deadly(folder, "refuse") as runtime, pytest.raises(PositionOutOfRange) as caught:
        runtime.run(feeds(3))
    assert str(caught.value) == "Too far.\nNear.\nStay."
    with deadly(folder, "faults") as runtime, pytest.raises(ConfigError) as caught:
        runtime.run(feeds(3))
    assert caught.value.faults == ("one", "two") and caught.value.todo == "Mend."
    with deadly(folder, "raise") as runtime:
        with pytest.raises(InternalFault, match="Unexpected ZeroDivisionError: by nothing"):
            runtime.run(feeds(3))
        runtime.run(feeds(1))  # it is alive


def test_what_keeps_it_from_opening_is_raised_here(tmp_path):
    with pytest.raises(UsageError, match="not an artifact"):
        open_in_child("ort", Target(tmp_path, verify=True))
    with pytest.raises(RuntimeCrashed, match="deadly ended by SIGSEGV"):
        open_isolated("deadly", "tests.runtimes.deadly:open_dead", {"how": "SIGSEGV"})


def test_no_process_is_left_behind(folder):
    with deadly(folder, "SIGSEGV") as runtime:
        first = runtime._remote.pid
        with pytest.raises(RuntimeCrashed):
            runtime.run(feeds(3))
        runtime.run(feeds(1))
        second = runtime._remote.pid
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_crash_fails_its_cases_by_name_and_the_others_pass(folder, manifest):
    only = ["prefill", "prefill-batch", "decode", "shuffled", "refuses-beyond-table"]
    with deadly(folder, "SIGSEGV") as runtime:
        outcome = check(manifest, Twin(), runtime, only=only)
    verdicts = {record.case: record.verdict for record in outcome.records}
    assert {case for case, verdict in verdicts.items() if verdict == "failed"} == {"prefill-batch", "shuffled"}
    (found,) = outcome.diagnoses
    assert (found.code, found.cases) == ("RD902", ("prefill-batch", "shuffled"))
    assert "SIGSEGV" in found.explanation
    message = next(record.message for record in outcome.records if record.case == "shuffled")
    assert "SIGSEGV" in message and "so this is how it ends" in message


def test_a_refusal_stays_a_refusal_through_the_pipe(folder, manifest):
    with open_in_child("ort", Target(folder, taps=True)) as runtime:
        outcome = check(manifest, Twin(), runtime, only=["refuses-beyond-table", "refuses-negative"])
    assert not outcome.failed


def test_a_call_costs_little_more_than_in_this_process(folder):
    with (
        open_ort(folder, threads=1, taps=True) as near,
        open_in_child("ort", Target(folder, taps=True)) as far,
    ):
        cost = {}
        for name, runtime in (("near", near), ("far", far)):
            times = []
            for _ in range(20):
                began = time.perf_counter()
                runtime.run(feeds(), taps=True)
                times.append(time.perf_counter() - began)
            cost[name] = min(times)
    assert cost["far"] - cost["near"] < 0.05
