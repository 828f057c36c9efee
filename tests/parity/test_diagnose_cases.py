"""A mistake is diagnosed by name, once, and only when something failed."""

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.parity import check
from rope_deploy.parity import diagnose_cases as subject
from rope_deploy.parity.site_observation import kept_heads
from rope_deploy.runtimes import open_ort
from tests.parity.test_run_cases import Tampered, by_case, judged
from tests.runtimes.toy import LAYERS, ROWS, Faults, Twin, write_toy


def codes(outcome):
    return [record.code for record in outcome.diagnoses]


def test_nothing_is_diagnosed_where_nothing_failed(tmp_path):
    assert judged(tmp_path).diagnoses == ()


def test_a_site_in_error_is_never_left_unnamed(tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "diagnose", lambda *_: ())
    (found,) = judged(tmp_path, "onnx", Faults(theta={1: 9000.0})).diagnoses
    assert (found.code, found.layers, found.roles) == ("RD900", (1,), ("q", "k"))
    assert found.error > 1 and "layer 1" in found.explanation


def test_the_diagnosis_is_asked_with_sound_and_wrong_evidence_of_every_case(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(subject, "diagnose", lambda manifest, runtime, observations: asked.extend(observations) or ())
    judged(tmp_path, "onnx", Faults(theta={1: 9000.0}), only=["prefill", "decode"])
    assert {one.case for one in asked} == {"prefill", "decode"}
    assert {(one.site.layer, one.site.role) for one in asked} == {(layer, role) for layer in (0, 1) for role in "qk"}
    wrong = {one.site.layer for one in asked if ratio_of(one) > 1}
    assert wrong == {1}
    assert {one.past for one in asked if one.case == "decode"} == {0, 9, 10, 11}


def ratio_of(one):
    """The largest error of a real token against the right rotation, in units of its budget."""
    right = Twin().rotate(one.unrotated.astype(np.float64), one.positions)
    return np.where(one.real, one.errors(right) / one.budget, 0.0).max()


def test_evidence_of_a_fused_q_is_judged_through_its_products(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(subject, "diagnose", lambda manifest, runtime, observations: asked.extend(observations) or ())
    judged(tmp_path, "contrib", Faults(theta={1: 9000.0}), only=["prefill"])
    queries = {one.site.layer: one for one in asked if one.site.role == "q"}
    assert queries[0].rotated is None and ratio_of(queries[0]) < 1
    assert queries[1].rotated is None and ratio_of(queries[1]) > 1


def test_of_many_heads_the_worst_is_kept():
    errors = np.zeros(32)
    errors[11] = 5
    heads = kept_heads(errors)
    assert len(heads) == 8 and 11 in heads and heads == sorted(heads)
    assert kept_heads(np.zeros(8)) == slice(None)


def test_evidence_of_few_heads_of_many_is_judged_as_that_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr("rope_deploy.parity.site_observation.KEPT_HEADS", 2)
    for style in ("onnx", "contrib"):
        asked = []
        monkeypatch.setattr(subject, "diagnose", lambda manifest, runtime, seen, asked=asked: asked.extend(seen) or ())
        judged(tmp_path / style, style, Faults(theta={1: 9000.0}), only=["prefill"])
        (sound, wrong) = (one for one in asked if one.site.role == "q")
        assert sound.unrotated.shape[1] == wrong.unrotated.shape[1] == 2
        assert ratio_of(sound) < 1 < ratio_of(wrong)


def test_an_error_that_is_no_rotation_is_called_that_and_names_the_first_tensor(tmp_path):
    def spoil(outputs, feeds):
        outputs["present.1.value"] = outputs["present.1.value"] + 1
        outputs["logits"] = outputs["logits"] + 1

    (found,) = judged(tmp_path, tamper=spoil, only=["prefill"]).diagnoses
    assert (found.code, found.layers, found.cases) == ("RD901", (1,), ("prefill",))
    assert "present.1.value" in found.where and found.error > 1


def test_a_graph_that_obeys_the_manifest_while_pytorch_does_not_is_reported(tmp_path):
    (found,) = judged(tmp_path, reference=Twin(500.0), only=["prefill"]).diagnoses
    assert (found.code, found.layers, found.roles) == ("RD603", (0,), ("q", "k"))  # later layers are given other inputs
    assert "10000" in found.explanation


@pytest.mark.slow
def test_a_difference_that_came_with_the_input_is_not_blamed_on_the_rule(tmp_path, monkeypatch):
    """The input of a rotation is off by just less than it may be, and its output by just more."""

    def found(scale):
        reference = Twin()
        reference.w["wq.0"] = reference.w["wq.0"] * (1 + scale)
        return codes(judged(tmp_path, reference=reference, only=["prefill"]))

    scales = [1e-4 * (0.997 + number * 2e-4) for number in range(15)]
    assert not any("RD603" in found(scale) for scale in scales)
    monkeypatch.setattr(subject, "BEYOND_INPUT", 0.0)
    assert any("RD603" in found(scale) for scale in scales)


def test_a_rotated_layer_that_must_not_be_rotated_is_named(tmp_path):
    manifest = write_toy(tmp_path / "toy")
    sites = tuple(site for site in manifest.sites if site.layer != 1)
    outcome = judged(tmp_path, sites=sites, reference=Twin(still=(1,)), only=["prefill", "decode"])
    (found,) = outcome.diagnoses
    assert (found.code, found.layers, found.cases) == ("RD110", (1,), ("prefill", "decode"))
    assert found.residual <= 1 < found.error


def test_a_layer_without_rotation_that_differs_otherwise_is_not_called_rotated(tmp_path):
    def spoil(outputs, feeds):
        outputs["present.1.key"] = outputs["present.1.key"] + 0.5

    manifest = write_toy(tmp_path / "toy")
    sites = tuple(site for site in manifest.sites if site.layer != 1)
    assert codes(judged(tmp_path, sites=sites, tamper=spoil, only=["prefill"])) == ["RD901"]


def test_a_runtime_that_dies_is_one_finding_with_its_cases(tmp_path):
    def crash(outputs, feeds):
        if feeds["input_ids"].shape[0] == 3:
            raise MemoryError("no room")

    (found,) = judged(tmp_path, tamper=crash, only=["prefill", "prefill-batch", "shuffled"]).diagnoses
    assert (found.code, found.cases) == ("RD902", ("prefill-batch", "shuffled"))
    assert found.explanation == "Memory ran out."


def test_a_rotation_without_rule_that_differs_from_pytorch_is_found(tmp_path):
    rotation = replace(write_toy(tmp_path / "toy").rotations[0], spec={})
    outcome = judged(tmp_path, "onnx", Faults(theta={1: 9000.0}), rotations=(rotation,), only=["prefill"])
    (found,) = outcome.diagnoses
    assert (found.code, found.layers) == ("RD900", (1,))


def test_a_call_that_runs_and_must_not_is_found(tmp_path):
    class Careless(Tampered):
        def run(self, feeds, taps=False):
            return Twin().run(feeds | {"position_ids": feeds["position_ids"] % ROWS}, taps)

    manifest = write_toy(tmp_path / "toy")
    outcome = check(manifest, Twin(), Careless(Twin(), None), only=["refuses-beyond-table"])
    assert codes(outcome) == ["RD901"] and "promised" in outcome.diagnoses[0].explanation


def test_maps_show_the_layer_and_the_positions_in_error_alone(tmp_path):
    outcome = judged(tmp_path, "onnx", Faults(theta={1: 9000.0}), only=["prefill"])
    assert {found.role for found in outcome.maps} == {"q", "k"}
    for found in outcome.maps:
        sound, wrong = found.errors
        assert found.layers == (0, 1) and len(found.positions) <= 32 and found.positions[0] == 0
        assert max(sound) < 1 and wrong[0] < 1 < wrong[-1]


def test_one_wrong_position_is_wrong_in_the_map_alone(tmp_path):
    manifest = write_toy(tmp_path / "toy")

    def spoil(outputs, feeds):
        outputs["rotated.0.q"] = np.where((feeds["position_ids"] == 4)[:, None, :, None], 9, outputs["rotated.0.q"])

    with open_ort(tmp_path / "toy", threads=1, taps=True) as runtime:
        outcome = check(manifest, Twin(), Tampered(runtime, spoil), only=["prefill"])
    q = next(found for found in outcome.maps if found.role == "q")
    assert [position for position, error in zip(q.positions, q.errors[0]) if error > 1] == [4]
    assert len(q.errors) == LAYERS and by_case(outcome)["prefill"].worst.position == 4


def test_a_model_that_does_not_follow_its_configuration_is_told_apart_from_the_graph(tmp_path):
    """Graph and model agree: neither is called wrong for what the configuration says."""
    manifest = write_toy(tmp_path / "toy")
    other = manifest.rotations[0].spec["rope_parameters"]["rope_theta"] / 20
    outcome = check(manifest, Twin(other), Twin(other), only=["prefill", "offset-half", "decode"])
    (found,) = outcome.diagnoses
    assert found.code == "RD603" and "The graph does what PyTorch does" in found.explanation
    assert "rope_theta is" in found.explanation and "(RD301)" in found.explanation
    (found,) = check(manifest, Twin(), Twin(other), only=["prefill", "offset-half", "decode"]).diagnoses
    assert found.code == "RD301"
