"""In float32 an artifact is right at any size of its logits, and a mistake is found at any size."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from faults.mistakes.fault import Fault, at_sites
from faults.mistakes.frequency import theta
from faults.mistakes.position import off_by
from faults.workshop import mutated
from rope_deploy.artifact import load_manifest
from rope_deploy.export import prepare, write
from rope_deploy.models import wrap
from rope_deploy.parity import check
from rope_deploy.runtimes import Memoized, open_ort, open_torch
from tests import tiny
from tests.parity.test_run_cases import Tampered
from tests.sweep import swept

SHARP = 40.0  # times as large q: attention hangs on the last bits, and PyTorch itself is off by more than 1e-3
TOYS = {"small": (1e-5, 1.0), "sharp": (1.0, SHARP), "large": (1e5, 1.0), "large and sharp": (1e5, SHARP)}
FEW = ("shuffled", "decode-shuffled")
EXCUSED = "as near to the model in float64"


def one_row(sound):
    """One row of the table is the one behind it."""
    cos, sin = (np.array(table) for table in (sound.applied.cos, sound.applied.sin))
    cos[3], sin[3] = cos[4], sin[4]
    return sound.applied.cast(cos, sin)


FAULTS = {
    "half a percent of theta": theta(lambda base: base * 1.005),
    "one row": one_row,
    "one further": off_by(1),
}


def exported(folder, size, sharp):
    model = tiny.build("llama", tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight *= size
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight *= sharp
    loaded = wrap(model, tiny.plain_config(model), source="tiny", dtype="float32")
    write(prepare(loaded), folder, "tables")
    return folder, Memoized(open_torch(loaded))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Each exported when it is first asked for."""
    return cache(lambda name: exported(tmp_path_factory.mktemp("toy") / "tables", *TOYS[name]))


@pytest.fixture(scope="module", params=swept(TOYS, ["large and sharp"]))
def toy(request, toys):
    return toys(request.param)


@pytest.fixture(scope="module")
def calm(toys):
    return toys("large")


@pytest.fixture(scope="module")
def large(toys):
    return toys("large and sharp")


def judged(made, folder=None, *, tamper=None, taps=True, only=(), **changes):
    with open_ort(folder or made[0], threads=1, taps=True, verify=False) as runtime:
        tested = Tampered(runtime, tamper or (lambda outputs, feeds: None), taps)
        manifest = replace(load_manifest(made[0]), **changes)
        return check(manifest, made[1], tested, only=only, which="quick")


def failures(outcome):
    return [f"{r.case}: {r.message}" for r in outcome.records if r.verdict == "failed"]


def test_a_right_artifact_passes(toy):
    assert not failures(judged(toy))


def test_large_logits_exceed_the_fixed_tolerance_and_the_record_says_what_excuses_them(large):
    records = [record for record in judged(large).records if EXCUSED in record.message]
    assert records and all(record.verdict == "passed" for record in records)
    assert max(record.logits_error for record in records) > 1e-3  # what a gate is asked about: from PyTorch


@pytest.mark.parametrize("taps", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("name", swept(FAULTS, list(FAULTS)[:1]))
def test_a_mistake_fails(toy, name, taps):
    """Of q alone: unseen, it shows in nothing but what comes after it."""
    fault = Fault("planted", "RD900", at_sites(FAULTS[name], "q"))
    with mutated(toy[0], toy[0].with_suffix(".mutant"), fault, None, natural=False) as mutant:
        assert mutant.layers
        assert judged(toy, mutant.folder, taps=taps, only=FEW).failed


def still_in_one_head(outputs, feeds):
    """One head of q is not rotated."""
    if "rotated.1.q" in outputs:
        outputs["rotated.1.q"] = outputs["rotated.1.q"].copy()
        outputs["rotated.1.q"][:, 0] = outputs["unrotated.1.q"][:, 0]


def off_in_one_head(outputs, feeds):
    """As if one head of v were off by a percent."""
    value = outputs["present.1.value"] = outputs["present.1.value"].copy()
    value[:, 0] *= 1.01


def off_in_results(outputs, feeds):
    outputs["logits"] = outputs["logits"] * np.float32(1.01)


@pytest.mark.parametrize("tamper", [still_in_one_head, off_in_one_head, off_in_results])
def test_a_mistake_beside_the_rotations_fails(toy, tamper):
    assert judged(toy, tamper=tamper, only=FEW).failed


@pytest.mark.slow
def test_one_huge_logit_hides_nothing_of_the_others(calm):
    """A vocabulary with one entry of a million times the others' size."""
    folder, reference = calm
    weight = reference._runtime._loaded.model.lm_head.weight
    before = weight[5].clone()

    class Huge(Tampered):
        def run(self, feeds, taps=False):
            outputs = super().run(feeds, taps)
            outputs["logits"] = outputs["logits"].copy()
            outputs["logits"][..., 5] *= np.float32(2**20)
            return outputs

    def off(outputs, feeds):
        outputs["logits"] = outputs["logits"].copy()
        outputs["logits"][..., 7] *= np.float32(1.01)

    try:
        with torch.no_grad():
            weight[5] *= 2**20
        made = folder, Memoized(open_torch(reference._runtime._loaded))
        for tamper, failed in ((lambda outputs, feeds: None, False), (off, True)):
            with open_ort(folder, threads=1, taps=True) as runtime:
                outcome = check(load_manifest(folder), made[1], Huge(runtime, tamper), only=FEW)
            assert outcome.failed == failed, failures(outcome)
    finally:
        with torch.no_grad():
            weight[5] = before


def test_a_tolerance_that_somebody_states_holds_as_it_is_stated(large):
    """Nothing excuses what is beyond it, and it does not shrink with what it is a tolerance of."""
    stated = replace(load_manifest(large[0]).tolerances, logits=1e-4)
    assert judged(large, tolerances=stated).failed
    loose = replace(stated, logits=1e9)
    assert not judged(large, tamper=off_in_results, tolerances=loose).failed


def test_no_number_fails(large):
    def void(outputs, feeds):
        outputs["logits"] = outputs["logits"].copy()
        outputs["logits"][0, -1, 3] = np.nan

    assert judged(large, tamper=void).failed


def test_where_memory_runs_out_the_fixed_tolerance_holds(large, monkeypatch):
    from rope_deploy.models.reference import wider_type

    fresh = large[0], Memoized(open_torch(large[1]._runtime._loaded))
    monkeypatch.setattr(wider_type.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    found = failures(judged(fresh))
    assert any("logits is off by" in failure and "could not be asked: memory ran out" in failure for failure in found)


def test_where_a_model_does_not_run_in_float64_the_fixed_tolerance_holds(large):
    fresh = large[0], Memoized(open_torch(large[1]._runtime._loaded))

    class Narrow:
        def run(self, feeds, taps=False):
            raise RuntimeError("expected Float")

    fresh[1].__dict__["exact"] = Narrow()
    found = failures(judged(fresh))
    assert any(
        "logits is off by" in failure and "PyTorch says: RuntimeError: expected Float" in failure for failure in found
    )


def test_nothing_more_is_asked_once_a_rotation_is_known_to_be_wrong(large):
    """A model in float64, and chance, cost many runs; the results of later calls are wrong by the same mistake."""
    fresh, asked = (large[0], Memoized(open_torch(large[1]._runtime._loaded))), []

    class Asked:
        def run(self, feeds, taps=False):
            asked.append(feeds)
            raise RuntimeError

    fresh[1].__dict__["exact"] = Asked()
    fault = Fault("planted", "RD900", at_sites(off_by(1)))
    with mutated(large[0], large[0].with_suffix(".mutant"), fault, None, natural=False) as mutant:
        assert judged(fresh, mutant.folder).failed
    assert not asked
