"""Where no rule is known, PyTorch's own angles judge a rotation; without PyTorch, the file's own tables do."""

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.artifact import load_manifest
from rope_deploy.parity import check
from rope_deploy.parity.stored_tables import tables_without_rule
from rope_deploy.runtimes import open_ort
from tests.parity.test_quick_set import Mistaken
from tests.parity.test_run_cases import Tampered, by_case
from tests.runtimes.toy import ROWS, Faults, Twin, write_toy

CASES = ("prefill", "offset-half", "shuffled", "decode")


def blind(manifest):
    (rotation,) = manifest.rotations
    known = {name: rotation.spec[name] for name in ("rotary_dim", "interleaved")}
    return replace(manifest, rotations=(replace(rotation, spec={}, **known),))


def judged(tmp_path, tested, reference=None, **options):
    return check(blind(write_toy(tmp_path / "toy")), reference, tested, only=CASES, **options)


# Models do all of this on purpose: an export that repeats it is right.
MODELS = {
    "plain": lambda positions, mask: positions,
    "shifted": lambda positions, mask: positions + 5,
    "clamped": lambda positions, mask: np.minimum(positions, 7),
    "wrapped": lambda positions, mask: positions % 6,
    "two at each": lambda positions, mask: positions // 2,
}


@pytest.mark.parametrize("model", MODELS)
def test_an_export_that_does_as_its_model_passes(model, tmp_path):
    outcome = judged(tmp_path, Mistaken(MODELS[model]), Mistaken(MODELS[model]))
    assert not outcome.failed and outcome.diagnoses == ()
    assert "judged by PyTorch's own angles" in by_case(outcome)["coverage"].message


@pytest.mark.parametrize("model", MODELS)
def test_an_export_that_does_otherwise_fails(model, tmp_path):
    for other in (name for name in MODELS if name != model):
        assert judged(tmp_path, Mistaken(MODELS[other]), Mistaken(MODELS[model])).failed


class Changed(Twin):
    """x rotated, then changed."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def rotate(self, x, positions):
        return self.change(x, super().rotate(x, positions))


def test_a_mistake_is_named_by_pytorchs_angles(tmp_path):
    tested = Changed(lambda x, y: x)
    assert "RD106" in {one.code for one in judged(tmp_path, tested, Twin()).diagnoses}


def test_a_factor_that_only_the_export_has_fails(tmp_path):
    assert judged(tmp_path, Changed(lambda x, y: 1.001 * y), Twin()).failed
    both = Changed(lambda x, y: 1.3 * y)
    assert not judged(tmp_path, both, both).failed


@pytest.mark.parametrize("style", ["onnx", "tables"])
def test_without_pytorch_a_runtime_is_held_to_the_files_own_table(style, tmp_path):
    for faults in (None, Faults(shift=1)):
        folder = tmp_path / f"toy{faults is None}"
        manifest = blind(write_toy(folder, style, faults))
        stored = tables_without_rule(folder, manifest)
        assert set(stored) == {"main"}
        with open_ort(folder, threads=1, taps=True) as runtime:
            outcome = check(manifest, None, runtime, which="quick", stored=stored)
        assert outcome.failed == (faults is not None)
        assert "by the tables of the file alone" in by_case(outcome)["coverage"].message


def test_a_runtime_that_does_not_read_its_table_is_found_without_pytorch(tmp_path):
    manifest = blind(write_toy(tmp_path / "toy"))
    stored = tables_without_rule(tmp_path / "toy", manifest)
    assert not check(manifest, None, Twin(), only=CASES, stored=stored).failed
    wrong = Mistaken(lambda positions, mask: positions % (ROWS // 2 + 4))
    assert check(manifest, None, wrong, only=CASES, stored=stored).failed


def test_a_value_that_is_no_number_is_found(tmp_path):
    def spoil(outputs, feeds):
        outputs["rotated.1.k"][:, :, -1] = np.nan

    outcome = judged(tmp_path, Tampered(Twin(), spoil), Twin())
    assert {r.worst.layer for r in outcome.records if r.verdict == "failed" and r.worst} == {1}


def test_a_rule_needs_no_stored_table(tmp_path):
    write_toy(tmp_path / "toy")
    assert tables_without_rule(tmp_path / "toy", load_manifest(tmp_path / "toy")) == {}
