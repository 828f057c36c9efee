"""Every comparison passes on the honest toy and fails on a planted fault, naming where it is."""

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.artifact import Limits
from rope_deploy.errors import UsageError
from rope_deploy.parity import cases_for, check
from rope_deploy.parity.cases import UNTOUCHED, UNTOUCHED_CHUNKED
from rope_deploy.rope import RopeSpec, tables
from rope_deploy.runtimes import open_ort
from tests.runtimes.toy import FUSED_LIMITS, LAYERS, ROWS, Faults, Twin, spec, write_toy

STYLES = ("onnx", "tables", "contrib")


class Tampered:
    """A runtime whose answers pass through `tamper(outputs, feeds)`."""

    def __init__(self, runtime, tamper, taps=True):
        self.runtime, self.tamper, self.name, self.taps = runtime, tamper, runtime.name, taps

    def run(self, feeds, taps=False):
        outputs = self.runtime.run(feeds, taps)
        return self.tamper(outputs, feeds) or outputs


def judged(tmp_path, style="onnx", faults=None, reference=None, tamper=None, only=(), taps=True, **changes):
    manifest = write_toy(tmp_path / "toy", style, faults, **changes)
    with open_ort(tmp_path / "toy", threads=1, taps=True) as runtime:
        tested = Tampered(runtime, tamper or (lambda outputs, feeds: None), taps)
        return check(manifest, reference or Twin(), tested, only=only)


def by_case(outcome):
    return {record.case: record for record in outcome.records}


@pytest.mark.parametrize("style", STYLES)
def test_honest_graph_passes_every_case(tmp_path, style):
    outcome = judged(tmp_path, style)
    assert not outcome.failed
    assert by_case(outcome)["coverage"].verdict == "passed"
    skipped = [record.case for record in outcome.records if record.verdict == "skipped"]
    assert bool(skipped) == (style == "contrib")
    for record in outcome.records:
        if record.verdict == "passed" and not record.case.startswith(("refuses", "coverage")):
            assert record.logits_error < 1e-5, record
            assert record.case in (*UNTOUCHED, UNTOUCHED_CHUNKED) or record.rotated_error < 1e-5, record


@pytest.mark.parametrize("style", ["onnx", "contrib"])
def test_wrong_theta_in_one_layer_names_that_layer(tmp_path, style):
    record = by_case(judged(tmp_path, style, Faults(theta={1: 9000.0})))["prefill"]
    assert record.verdict == "failed"
    assert record.worst.layer == 1
    assert "layer 1" in record.message and record.worst.error > record.worst.tolerance


def test_wrong_theta_is_named_where_the_angle_errs_most(tmp_path):
    record = by_case(judged(tmp_path, "onnx", Faults(theta={1: 9990.0})))["prefill"]
    assert record.verdict == "failed" and record.worst.position > 4


@pytest.mark.parametrize("style", STYLES)
def test_shifted_positions_fail_though_logits_hardly_see_them(tmp_path, style):
    outcome = judged(tmp_path, style, Faults(shift=1), only=["prefill", "decode"])
    assert {record.verdict for record in outcome.records if record.case != "coverage"} == {"failed"}
    assert by_case(outcome)["prefill"].logits_error < 1e-4
    assert by_case(outcome)["prefill"].rotated_error > 1e-2


@pytest.mark.parametrize(("style", "faults"), [("onnx", Faults(interleaved=True)), ("tables", Faults(swap_heads=True))])
def test_swapped_layout_fails(tmp_path, style, faults):
    assert by_case(judged(tmp_path, style, faults))["prefill"].verdict == "failed"


def test_interleaved_agrees_with_half_split_at_position_zero_alone(tmp_path):
    records = by_case(judged(tmp_path, "onnx", Faults(interleaved=True), only=["single-token", "last-position"]))
    assert records["single-token"].verdict == "passed"
    assert records["last-position"].verdict == "failed"


def test_fault_beyond_a_position_is_found_only_by_cases_that_go_there(tmp_path):
    records = by_case(judged(tmp_path, "onnx", Faults(nan_from_position=ROWS - 1)))
    assert records["prefill"].verdict == "passed"
    for case in ("offset-end", "last-position", "offset-by-row", "decode-end"):
        assert records[case].verdict == "failed", case
        assert (records[case].worst.position, records[case].worst.error) == (ROWS - 1, np.inf)
        assert "not finite" in records[case].message


def test_nan_at_padding_is_no_failure(tmp_path):
    def spoil(outputs, feeds):
        tokens = feeds["input_ids"].shape[1]
        outputs["logits"][feeds["attention_mask"][:, -tokens:] == 0] = np.nan

    outcome = judged(tmp_path, tamper=spoil, only=["prefill-right-padded", "prefill-left-padded"])
    assert not outcome.failed


def test_nan_at_a_real_token_of_a_padded_row_fails(tmp_path):
    def spoil(outputs, feeds):
        outputs["logits"][2, -1] = np.nan

    record = by_case(judged(tmp_path, tamper=spoil, only=["prefill-left-padded"]))["prefill-left-padded"]
    assert (record.verdict, record.worst.batch) == ("failed", 2)


def test_nan_in_the_reference_fails_too(tmp_path):
    def spoil(outputs, feeds):
        outputs["rotated.0.k"][0, 0, 3, 5] = np.nan

    record = by_case(judged(tmp_path, reference=Tampered(Twin(), spoil), only=["prefill"]))["prefill"]
    assert (record.verdict, record.worst.layer, record.worst.role, record.worst.position) == ("failed", 0, "k", 3)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [("logits", "shape"), ("rotated.1.q", "q of layer 1"), ("present.1.value", "value of layer 1")],
)
def test_wrong_shape_fails_and_names_the_tensor(tmp_path, tensor, says):
    def crop(outputs, feeds):
        outputs[tensor] = outputs[tensor][:, :-1]

    record = by_case(judged(tmp_path, tamper=crop, only=["prefill"]))["prefill"]
    assert record.verdict == "failed" and says in record.message and "shape" in record.message


@pytest.mark.parametrize("tensor", ["logits", "present.0.key"])
def test_missing_output_fails(tmp_path, tensor):
    record = by_case(judged(tmp_path, tamper=lambda outputs, feeds: outputs.pop(tensor) is None, only=["prefill"]))
    assert "did not return it" in record["prefill"].message and record["prefill"].verdict == "failed"


def test_error_just_above_the_tolerance_fails_and_just_below_passes(tmp_path):
    def off(amount):
        def add(outputs, feeds):
            outputs["logits"][0, 2, 7] += amount

        return add

    assert not judged(tmp_path, tamper=off(9e-4), only=["prefill"]).failed
    record = by_case(judged(tmp_path, tamper=off(1.1e-3), only=["prefill"]))["prefill"]
    assert (record.verdict, record.worst.tensor, record.worst.position) == ("failed", "logits", 2)


def test_lost_past_fails_in_decode_alone(tmp_path):
    """The cache returned is right for one call; what comes after would go wrong."""

    def forget(outputs, feeds):
        if feeds["past_key_values.1.value"].shape[2]:
            outputs["present.1.value"][:, :, 0] = 0

    records = by_case(judged(tmp_path, tamper=forget, only=["prefill", "decode"]))
    assert records["prefill"].verdict == "passed"
    assert records["decode"].verdict == "failed" and "value of layer 1" in records["decode"].message


def test_oracle_sees_a_rotation_wrong_on_both_sides(tmp_path):
    """PyTorch and the graph both rotate with theta 500; the manifest states 10000."""
    wrong = Faults(theta=dict.fromkeys(range(LAYERS), 500.0))
    for style in STYLES:
        record = by_case(judged(tmp_path / style, style, wrong, reference=Twin(500.0), only=["prefill"]))["prefill"]
        assert record.verdict == "failed" and record.worst.tensor.startswith("oracle."), style
        assert record.logits_error < 1e-4 and record.rotated_error < 1e-4


def test_rotation_without_a_known_rule_is_compared_with_pytorch_and_says_so(tmp_path):
    manifest = write_toy(tmp_path / "probe")
    unknown = (replace(manifest.rotations[0], spec={}),)
    outcome = judged(tmp_path, rotations=unknown)
    assert not outcome.failed
    assert "No rule is known for main" in by_case(outcome)["coverage"].message


def test_better_tables_than_pytorchs_are_allowed_their_difference_and_no_more(tmp_path):
    """With `--angles float64` the graph differs from fp32 angles by what the tables differ."""

    class Fp32Angles(Twin):
        def __init__(self, factor=1.0):
            super().__init__()
            rule = RopeSpec.from_dict(spec())
            model, exact = (tables(rule, ROWS, angles=angles) for angles in ("model", "float64"))
            self.cos, self.sin = (e + factor * (m.astype(np.float64) - e) for m, e in zip(model, exact))

    manifest = write_toy(tmp_path / "toy", tolerances=replace(write_toy(tmp_path / "p").tolerances, rotated=2e-6))
    with open_ort(tmp_path / "toy", threads=1, taps=True) as runtime:
        only = ["offset-by-row", "offset-end"]
        assert not check(manifest, Fp32Angles(), runtime, only=only).failed
        assert check(manifest, Fp32Angles(factor=60), runtime, only=only).failed


def test_runtime_without_taps_is_judged_by_results_and_says_what_it_could_not_see(tmp_path):
    outcome = judged(tmp_path, taps=False, only=["prefill"])
    records = by_case(outcome)
    assert records["prefill"].verdict == "passed" and records["prefill"].rotated_error is None
    assert records["coverage"].verdict == "skipped"
    assert "q of layers 0, 1; k of layers 0, 1" in records["coverage"].message
    assert outcome.curves == ()


def test_fused_q_is_not_observable_without_products(tmp_path):
    def hide(outputs, feeds):
        return {name: value for name, value in outputs.items() if not name.startswith("products.")}

    coverage = by_case(judged(tmp_path, "contrib", tamper=hide))["coverage"]
    assert coverage.verdict == "skipped" and "q of layers 0, 1" in coverage.message


@pytest.mark.slow
def test_undeclared_limits_of_a_fused_attention_fail_their_cases(tmp_path):
    records = by_case(judged(tmp_path, "contrib", limits=Limits()))
    for case in ("prefill-left-padded", "strided", "offset-by-row", "shuffled", "chunked-prefill-batch"):
        assert records[case].verdict == "failed", case


def test_declared_limits_are_skipped_and_their_refusals_tested(tmp_path):
    limits = replace(FUSED_LIMITS, padded_past=False)
    records = by_case(judged(tmp_path, "contrib", limits=limits))
    assert "no left padding" in records["prefill-left-padded"].message
    assert records["decode-right-padded"].verdict == "skipped"
    for case in ("refuses-padded-past", "refuses-left-padding", "refuses-chunked-batch", "refuses-strided-prompt"):
        assert records[case].verdict == "passed" and records[case].message.startswith("Refused:"), case


class Careless(Tampered):
    """Runs whatever it is given: positions wrap, padding is taken for text."""

    def run(self, feeds, taps=False):
        return Twin().run(feeds | {"position_ids": feeds["position_ids"] % ROWS}, taps)


@pytest.mark.parametrize("style", ["onnx", "contrib"])
def test_runtime_that_refuses_nothing_fails_every_refusal(tmp_path, style):
    manifest = write_toy(tmp_path / "toy", style)
    records = by_case(check(manifest, Twin(), Careless(Twin(), None)))
    refusals = [record for case, record in records.items() if case.startswith("refuses")]
    assert len(refusals) == (7 if style == "contrib" else 4)
    assert {record.verdict for record in refusals} == {"failed"}
    assert all("was promised" in record.message for record in refusals)


def test_refusal_with_another_error_fails(tmp_path):
    def complain(outputs, feeds):
        raise UsageError("I never run.")

    manifest = write_toy(tmp_path / "toy", "onnx")
    records = by_case(check(manifest, Twin(), Tampered(Twin(), complain), only=["refuses-beyond-table"]))
    assert records["refuses-beyond-table"].verdict == "failed"


def test_crash_in_one_case_is_its_failure_and_the_others_run(tmp_path):
    def crash(outputs, feeds):
        if feeds["input_ids"].shape[0] == 3:
            raise MemoryError("no room")

    records = by_case(judged(tmp_path, tamper=crash))
    assert records["prefill"].verdict == "passed"
    assert records["prefill-batch"].verdict == "failed"
    assert records["prefill-batch"].message == "Memory ran out."


def test_a_fault_of_ours_fails_its_case_and_is_reported_as_no_difference(tmp_path):
    def stumble(outputs, feeds):
        if feeds["input_ids"].shape[0] == 3:
            raise KeyError("layer")

    record = by_case(judged(tmp_path, tamper=stumble))["prefill-batch"]
    assert record.verdict == "failed"
    assert record.message.startswith(
        "Unexpected KeyError: 'layer'. No parity was judged: this is a fault in rope-deploy"
    )


def test_interrupt_is_not_a_case_failure(tmp_path):
    def interrupt(outputs, feeds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(tmp_path, tamper=interrupt)


def test_a_flipped_near_tie_is_reported_but_does_not_fail(tmp_path):
    def tie(outputs, feeds):
        top = outputs["logits"][0, 0].argmax()
        outputs["logits"][0, 0] -= 1e-4 * (np.arange(outputs["logits"].shape[-1]) == top)

    class Tied(Twin):
        def run(self, feeds, taps=False):
            outputs = super().run(feeds, taps)
            first, second = outputs["logits"][0, 0].argsort()[[-1, -2]]
            outputs["logits"][0, 0, second] = outputs["logits"][0, 0, first] - 5e-5
            return outputs

    manifest = write_toy(tmp_path / "toy")
    records = by_case(check(manifest, Tied(), Tampered(Tied(), tie), only=["prefill"]))
    assert records["prefill"].verdict == "passed"
    assert "differs at 1 of 9 tokens, near ties" in records["prefill"].message


def test_a_flip_that_is_no_tie_is_reported_as_such(tmp_path):
    def flip(outputs, feeds):
        for row in (0, 3):
            outputs["logits"][0, row] *= -1

    record = by_case(judged(tmp_path, tamper=flip, only=["prefill"]))["prefill"]
    assert record.verdict == "failed"
    assert "differs at 2 of 9 tokens, 0 of them near ties; PyTorch is sure by up to" in record.message


def test_one_case_runs_by_its_id_on_the_same_arrays(tmp_path):
    fed = []

    def keep(outputs, feeds):
        fed.append(feeds["input_ids"].tobytes())

    manifest = write_toy(tmp_path / "toy")
    tested = Tampered(Twin(), keep)
    for _ in range(2):
        outcome = check(manifest, Twin(), tested, only=["shuffled"])
        assert by_case(outcome)["shuffled"].verdict == "passed"
    assert fed[0] == fed[1]


def test_unknown_case_is_refused_with_the_list(tmp_path):
    manifest = write_toy(tmp_path / "toy")
    with pytest.raises(UsageError, match=r"There is no case sideways.(.|\n)*prefill"):
        check(manifest, Twin(), Twin(), only=["sideways"])


def test_curves_reach_the_last_position_and_show_the_fault_where_it_is(tmp_path):
    honest, faulty = (judged(tmp_path / str(i), "onnx", f) for i, f in enumerate((None, Faults(theta={1: 9000.0}))))
    assert {curve.role for curve in honest.curves} == {"q", "k"}
    for curve in honest.curves:
        assert curve.positions[0] == 0 and curve.positions[-1] == ROWS - 1
        assert max(curve.errors) < curve.tolerance
    for curve in faulty.curves:
        assert curve.errors[0] < curve.tolerance < curve.errors[-1]


def test_progress_hears_every_record_in_order(tmp_path):
    heard = []
    manifest = write_toy(tmp_path / "toy")
    outcome = check(manifest, Twin(), Twin(), progress=heard.append)
    assert tuple(heard) == outcome.records
    assert [record.case for record in heard] == [case.id for case in cases_for(manifest)] + ["coverage"]
