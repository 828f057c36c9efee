"""The sentence, the rows and the list of failures that every renderer draws from."""

import math
from dataclasses import replace

from rope_deploy.report.summary import first_difference, headline, problems, rows
from rope_deploy.results.records import Worst


def test_the_headline_of_a_pass_counts_what_passed(passing):
    assert headline(passing) == "All 23 checks, 1 engine, all 4 texts and all 4 gates passed. 1 item skipped."


def test_the_headline_of_a_failure_counts_what_failed(failing):
    assert headline(failing) == ("2 of 23 checks, 1 of 1 engine, 1 of 4 texts and 1 of 3 gates failed. 1 item skipped.")


def test_the_headline_of_nothing_does_not_say_passed(empty):
    assert headline(empty) == "Nothing was judged."
    assert empty.verdict == "skipped"


def test_every_failure_is_a_problem_and_nothing_else_is(passing, failing):
    assert problems(passing) == ()
    assert [p.kind for p in problems(failing)] == ["gate", "check", "check", "engine", "text"]


def test_a_row_stands_for_each_style_and_for_pytorch(failing):
    found = {(row.style, row.runtime): row for row in rows(failing)}
    assert list(found) == [("tables", "ort"), ("onnx", "ort"), ("contrib", "ort"), ("plugin", "ort"), ("", "torch")]
    assert [row.verdict for row in found.values()] == ["passed", "failed", "passed", "failed", "skipped"]
    contrib, onnx = found["contrib", "ort"], found["onnx", "ort"]
    assert (contrib.passed, contrib.judged, contrib.skipped) == (5, 5, 1)
    assert onnx.worst.error == 0.042 and onnx.same_text is False
    assert [record.workload for record in onnx.latencies] == ["prefill 128", "decode @128"]


def test_the_worst_of_a_row_is_judged_against_its_own_tolerance(passing):
    loose, tight = Worst("logits", 5e-4, 1e-3), Worst("rotated.0.q", 9e-5, 1e-4)
    checks = (replace(passing.checks[0], worst=loose), replace(passing.checks[1], worst=tight))
    assert rows(replace(passing, checks=checks))[0].worst == tight


def test_nan_is_the_worst_error_there_is(passing):
    bad = Worst("logits", math.nan, 1e-3)
    checks = (passing.checks[0], replace(passing.checks[1], worst=bad), passing.checks[2])
    assert rows(replace(passing, checks=checks))[0].worst is bad


def test_a_text_that_is_only_longer_departs_after_the_shared_part(passing):
    reference = passing.generations[0]
    longer = replace(passing.generations[1], tokens=(*reference.tokens, 7), agrees=False)
    assert first_difference(passing, longer) == f"differs from token {len(reference.tokens) + 1} on"
    at_once = replace(longer, tokens=(0, *reference.tokens[1:]))
    assert first_difference(passing, at_once) == "differs from token 1 on"
