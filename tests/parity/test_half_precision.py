"""In a half type an artifact is held against the model in float32, by the measure of PyTorch's own half run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from faults.mistakes import FAULTS
from faults.models import LONG
from faults.workshop import mutated
from rope_deploy.artifact import load_manifest
from rope_deploy.export import prepare, write
from rope_deploy.models import wrap
from rope_deploy.models.loading.factory import cast
from rope_deploy.parity import check
from rope_deploy.parity.pooled_verdict import CASE
from rope_deploy.runtimes import Memoized, open_ort, open_torch
from tests import tiny
from tests.models.patches.test_recurrent_scans import FAMILIES as HYBRIDS
from tests.parity.test_run_cases import Tampered, by_case
from tests.sweep import swept

# Their half runs differ by more than fixed tolerances allow: Bamba's by its recurrence, Qwen3-Next's by experts that
# are nearly tied, so that one token in many goes to another.
HYBRID = ("bamba", "qwen3_next")


def _export(model, folder):
    import torch

    model = cast(model, torch.float16)
    loaded = wrap(model, tiny.plain_config(model), source="tiny", dtype="float16")
    write(prepare(loaded), folder, "tables")
    return folder, Memoized(open_torch(loaded))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    model = tiny.build("smollm2", max_position_embeddings=LONG)
    return _export(model, tmp_path_factory.mktemp("plain") / "tables")


@pytest.fixture(scope="module", params=swept(HYBRID, ["bamba"]))
def hybrid(request, tmp_path_factory):
    model_class, config_class, settings = HYBRIDS[request.param]
    model = tiny.fresh(model_class, config_class(**settings))
    return _export(model, tmp_path_factory.mktemp(request.param) / "tables")


def judged(exported, tamper=None, seed=0, folder=None, **changes):
    made, reference = exported
    with open_ort(folder or made, threads=1, taps=True, verify=False) as runtime:
        tested = Tampered(runtime, tamper or (lambda outputs, feeds: None))
        manifest = replace(load_manifest(made), **changes)
        return check(manifest, reference, tested, which="quick", seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_hybrid_models_pass(hybrid, seed):
    outcome = judged(hybrid, seed=seed)
    assert not outcome.failed, [r.message for r in outcome.records if r.verdict == "failed"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["theta-large", "off-by-plus-1", "sine-negated"])
def test_a_mistake_planted_into_a_hybrid_model_fails(hybrid, tmp_path, fault):
    planted = next(one for one in FAULTS if one.id == fault)
    with mutated(hybrid[0], hybrid[0].with_suffix(".mutant"), planted, None, natural=True) as mutant:
        assert mutant.layers
        outcome = judged(hybrid, folder=mutant.folder)
    assert outcome.failed
    assert {record.code for record in outcome.diagnoses} == {planted.code}


@pytest.mark.slow
def test_noise_twice_pytorchs_own_fails_on_the_whole(plain):
    def shake(outputs, feeds):
        rng = np.random.default_rng(int(feeds["position_ids"].sum()))
        outputs["logits"] += 0.006 * rng.standard_normal(outputs["logits"].shape).astype(np.float32)

    assert not judged(plain).failed
    record = by_case(judged(plain, tamper=shake))[CASE]
    assert record.verdict == "failed" and "logits" in record.message


@pytest.mark.slow
def test_the_record_of_the_whole_tells_how_near_it_is(plain):
    record = by_case(judged(plain))[CASE]
    assert record.verdict == "passed"
    assert "the model in float32" in record.message and "PyTorch in float16" in record.message


@pytest.mark.parametrize("tensor", ["logits", "present.1.value", "present.0.key"])
def test_one_element_off_by_a_hundredth_fails_and_names_its_tensor(plain, tensor):
    """Less than the fixed tolerance for float16, which let it pass."""

    def bend(outputs, feeds):
        value = outputs[tensor] = outputs[tensor].copy()
        value[0, -1, -1] += 0.02 * np.abs(value).max()

    outcome = judged(plain, tamper=bend)
    assert outcome.failed
    assert tensor in " ".join(record.message for record in outcome.records if record.verdict == "failed")


def test_tolerances_of_the_manifest_decide_nothing(plain):
    def bend(outputs, feeds):
        outputs["logits"] = outputs["logits"] * 1.05

    loose = replace(load_manifest(plain[0]).tolerances, logits=1e9, rotated=1e9)
    assert judged(plain, tamper=bend, tolerances=loose).failed
    tight = replace(loose, logits=1e-9, rotated=1e-9)
    assert not judged(plain, tolerances=tight).failed


def test_no_number_fails(plain):
    def void(outputs, feeds):
        outputs["logits"] = outputs["logits"].copy()
        outputs["logits"][0, -1, 3] = np.nan

    assert judged(plain, tamper=void).failed


def test_pytorch_without_its_truth_is_no_reference_in_a_half_type(plain):
    class Bare:
        name, taps = "torch", True

        def run(self, feeds, taps=False):
            return {}

    with open_ort(plain[0], threads=1, taps=True) as runtime, pytest.raises(AttributeError):
        check(load_manifest(plain[0]), Bare(), runtime, which="quick")
