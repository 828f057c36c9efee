"""However a family ends, the sweep goes on and says how."""

import os
import signal
import time
from pathlib import Path

import pytest

from conformance.families import record
from conformance.families.causes import causes, markdown
from conformance.families.record import Record, StyleResult
from conformance.families.workers import Job, Plan, run

LIMITS = {"seconds": 20.0, "megabytes": 4000.0}


def end(work, log: Path, **limits: float) -> tuple[str, str]:
    """Run `work` alone; how it ended, and what there is to say about that."""

    def plan() -> Plan:
        return (yield Job(work, log, **{**LIMITS, **limits}))

    return next(run([plan()]))


def test_work_that_ends_well(tmp_path: Path) -> None:
    assert end(lambda: (tmp_path / "done").write_text("x") and None, tmp_path / "log") == ("done", "")
    assert (tmp_path / "done").exists()


def test_what_a_child_raises_is_in_its_log(tmp_path: Path) -> None:
    kind, message = end(lambda: 1 / 0, tmp_path / "log")
    assert (kind, message) == ("crash", "It ended with exit code 1.")
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_a_violent_end_is_survived(tmp_path: Path) -> None:
    kind, message = end(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path / "log")
    assert (kind, message) == ("crash", "It was ended by SIGKILL.")


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    kind, message = end(lambda: time.sleep(60), tmp_path / "log", seconds=0.5)
    assert (kind, message) == ("timeout", "It took longer than 0 s.")
    assert time.monotonic() - began < 10


def test_a_child_that_eats_memory_is_ended(tmp_path: Path) -> None:
    def eat() -> None:
        held = []
        while True:
            held.append(bytearray(20_000_000))

    import psutil

    limit = psutil.Process().memory_info().rss / 1e6 + 300
    kind, message = end(eat, tmp_path / "log", megabytes=limit)
    assert kind == "memory"
    assert "MB of memory" in message


def test_exiting_does_not_run_the_parents_code_in_the_child(tmp_path: Path) -> None:
    assert end(lambda: exit(0), tmp_path / "log")[0] == "crash"


def whole(**changed) -> Record:
    settled = {"verdict": "green", "versions": record.versions(), "code": record.code_digest()}
    return Record("some_family", "decoder", "SomeForCausalLM", **{**settled, **changed})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = whole(styles={"tables": StyleResult("tables", "green", sites=4)}, expected=4)
    written.write(tmp_path)
    assert record.read(tmp_path, "some_family") == written


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    record.path_of(tmp_path, "some_family").write_text('{"family": "some')
    assert record.read(tmp_path, "some_family") is None


@pytest.mark.parametrize(
    ("found", "current"),
    [
        (None, False),
        (whole(), False),  # no style yet
        (whole(styles={"tables": StyleResult("tables", "green")}), True),
        (whole(styles={"tables": StyleResult("tables", "green")}, versions={"torch": "1"}), False),
        (whole(verdict="no-rotation"), True),
        (whole(verdict="refused"), True),
        (whole(verdict="refused", versions={"torch": "1"}), False),
    ],
)
def test_what_needs_no_second_run(found: Record | None, current: bool) -> None:
    assert record.is_current(found, ["tables"], same_code=False) is current


def test_other_code_of_ours_is_another_run_if_asked() -> None:
    old = whole(styles={"tables": StyleResult("tables", "green")}, code="older")
    assert record.is_current(old, ["tables"], same_code=False)
    assert not record.is_current(old, ["tables"], same_code=True)


def test_the_same_message_is_one_cause() -> None:
    records = [
        whole(verdict="refused", reason="Cannot read some_family at 12.5"),
        whole(verdict="refused", reason="Cannot read some_family at 7"),
        whole(verdict="refused", reason="Something else"),
        whole(),
        whole(verdict="uncached", reason="Its cache is of an unknown kind."),
    ]
    found = causes(records)
    assert [(cause.verdict, len(cause.records)) for cause in found] == [("refused", 2), ("refused", 1), ("uncached", 1)]
    assert "5 families, 1 green." in markdown(records)
