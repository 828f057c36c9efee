"""Every mistake that is planted is caught and named; artifacts nobody touched pass.

One way for each fault, another style for each; `python -m faults --all` tries many more.
"""

from __future__ import annotations

import pytest

from benchmarks.common import UNFUSED, VARIANTS
from faults.artifact_graph import Graph
from faults.judged import judged
from faults.matrix import Variant, attempt, planted, styles_of, untouched
from faults.mistakes import FAULTS, Fault
from faults.mistakes.fault import at_sites
from faults.workshop import Model, Workshop, mutated
from rope_deploy.artifact import load_manifest
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import DiagnosisRecord
from tests.sweep import swept

# Faults that only some families can have; all others go into the first that is listed here under "".
HOMES = {
    "": "yarn",
    "rotary-dim-full": "partial",
    "other-end": "partial",
    "prefix-across": "partial",
    "across-prefix": "proportional",
    "proportional-factor": "proportional",
    "other-layer-type": "two-rules",
    "still-layer-turns": "interleaved-and-still",
    "layout-swapped": "interleaved-and-still",
    "yarn-instead": "linear",
    "linear-factor": "linear",
    "linear-factor-larger": "linear",
    "llama3-factor": "llama3",
    "dynamic-factor": "dynamic",
    "frozen-short": "longrope-whole",
    "frozen-long": "longrope-whole",
    "frozen-middle": "dynamic",
    "short-long-swapped": "longrope-whole",
}
_USUAL = [fault for fault in FAULTS if fault.id not in HOMES]
FEW = [next(fault for fault in _USUAL if fault.code == code) for code in sorted({fault.code for fault in _USUAL})]
# M-RoPE positions have several axes; what is exported today takes one position per token, so neither can happen.
NOT_PLANTED = {"RD209", "RD210"}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("mutation"))


@pytest.mark.parametrize("fault", swept(FAULTS, FEW), ids=lambda fault: fault.id)
def test_a_planted_mistake_is_caught_and_named(workshop: Workshop, fault: Fault) -> None:
    model = Model(HOMES.get(fault.id, HOMES[""]))
    trials = list(planted(workshop, model, [fault], most=1))
    assert len(trials) == 1
    (trial,) = trials
    assert trial.caught
    assert trial.named, trial.message


HALF = (
    "theta-large",
    "theta-nearest",
    "off-by-plus-7",
    "doubled-k",
    "clamped-half",
    "frequencies-bfloat16",
    "table-bfloat16",
    "too-long-by-a-hair",
    "end-still",
    "end-without-sine",
)


@pytest.mark.parametrize("fault", swept((f for f in FAULTS if f.id in HALF), ()), ids=lambda fault: fault.id)
def test_a_planted_mistake_is_named_in_half_precision(workshop: Workshop, fault: Fault) -> None:
    (trial,) = planted(workshop, Model("llama3", "float16"), [fault], most=1)
    assert trial.named, trial.message


@pytest.mark.parametrize("style", VARIANTS)
@pytest.mark.parametrize("natural", [True, False], ids=["natural", "rebuilt"])
def test_a_site_made_anew_as_it_was_is_sound(workshop: Workshop, style: str, natural: bool) -> None:
    """The mutators themselves plant nothing: only what is asked of them."""
    model, same = Model(HOMES[""]), Fault("nothing", "RD900", at_sites(lambda sound: sound.applied))
    trial = attempt(workshop, model, same, Variant(style, None, natural))
    assert trial is not None
    assert not trial.caught, trial.message


@pytest.mark.parametrize("family", swept(sorted(set(HOMES.values())), ["yarn"]))
def test_an_untouched_artifact_passes(workshop: Workshop, family: str) -> None:
    model = Model(family)
    for seed, style in enumerate(styles_of(workshop, model)):
        trial = untouched(workshop, model, style, seed, "quick")
        assert not trial.caught, trial.text + trial.message


def test_every_code_of_a_wrong_rotation_is_planted() -> None:
    wrong = {code for code in CODES if code < "RD600"}
    assert {fault.code for fault in FAULTS} - {"RD901"} == wrong - NOT_PLANTED
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)


def test_a_mutated_copy_shares_its_weights(workshop: Workshop) -> None:
    artifact = workshop.artifact(Model(HOMES[""]), "onnx")
    with mutated(artifact, artifact.with_suffix(".mutant"), FAULTS[0], (1,), natural=False) as mutant:
        assert mutant.layers == (1,)
        (weights,) = artifact.glob("model.onnx.*.data")
        assert (mutant.folder / weights.name).stat().st_ino == weights.stat().st_ino
        assert (mutant.folder / "model.onnx").read_bytes() != (artifact / "model.onnx").read_bytes()
        assert load_manifest(mutant.folder) == load_manifest(artifact)
        assert len(Graph(mutant.folder).nodes) > len(Graph(artifact).nodes)
    assert not mutant.folder.exists()


class Outcome:
    """What a check that failed found out."""

    failed = True

    def __init__(self, *found: tuple[str, tuple[int, ...]]):
        self.diagnoses = [DiagnosisRecord("onnx", "ort", code, "", "", "", layers) for code, layers in found]
        self.records = ()


@pytest.mark.parametrize(
    ("outcome", "named"),
    [
        (Outcome(("RD101", (0, 1))), True),
        (Outcome(("RD101", (0,)), ("RD101", (1,))), True),
        (Outcome(("RD102", (0, 1))), False),
        (Outcome(("RD101", (0,))), False),
        (Outcome(("RD101", (0, 1, 2))), False),
        (Outcome(("RD101", (0, 1)), ("RD900", (1,))), False),
        (Outcome(), False),
    ],
)
def test_only_the_right_code_in_the_right_layers_is_named(outcome: Outcome, named: bool) -> None:
    verdict = judged(outcome, FAULTS[0], (0, 1))  # type: ignore[arg-type]
    assert verdict.caught
    assert verdict.named == named


@pytest.mark.slow
def test_both_kinds_of_contrib_are_tried(workshop: Workshop) -> None:
    assert UNFUSED in styles_of(workshop, Model("yarn"))
    assert UNFUSED not in styles_of(workshop, Model("partial"))
