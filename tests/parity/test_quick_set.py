"""The quick set of cases meets every kind of mistake, also where a graph's limits leave cases out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.artifact import Limits
from rope_deploy.parity import check
from tests.parity.test_run_cases import Tampered
from tests.runtimes.toy import FUSED_LIMITS, ROWS, Twin, write_toy


class Mistaken(Twin):
    """Turns every token to where `stands(positions, mask)` says, with the theta given."""

    def __init__(self, stands, theta=10000.0, back=False):
        super().__init__(theta)
        self.stands = stands
        self.sin = -self.sin if back else self.sin

    def rotate(self, x, positions):
        return super().rotate(x, np.clip(self.stands(positions, self.mask), 0, ROWS - 1))

    def run(self, feeds, taps=False):
        self.mask = feeds["attention_mask"]
        return super().run(feeds, taps)


def same(positions, mask):
    return positions


def counted(positions, mask):
    return np.clip(mask.cumsum(axis=1) - 1, 0, None)[:, -positions.shape[1] :]


MISTAKES = {
    "other theta": Mistaken(same, theta=9000.0),
    "turns back": Mistaken(same, back=True),
    "off by one": Mistaken(lambda positions, mask: positions + 1),
    "starts again after the cache": Mistaken(
        lambda positions, mask: positions - (mask.shape[1] - positions.shape[1]) * (mask.shape[1] > positions.shape[1])
    ),
    "position_ids ignored": Mistaken(
        lambda positions, mask: np.broadcast_to(np.arange(mask.shape[1])[-positions.shape[1] :], positions.shape)
    ),
    "counts the mask": Mistaken(counted),
    "first row for all": Mistaken(lambda positions, mask: np.broadcast_to(positions[:1], positions.shape)),
    "wraps": Mistaken(lambda positions, mask: positions % (ROWS - 1)),
    "table frozen at sixteen": Mistaken(lambda positions, mask: np.minimum(positions, 15)),
    "last row missing": Mistaken(lambda positions, mask: np.minimum(positions, ROWS - 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("limits", [Limits(), FUSED_LIMITS], ids=["free", "fused"])
def test_the_quick_set_meets_every_kind_of_mistake(tmp_path, mistake, limits):
    manifest = replace(write_toy(tmp_path / "toy"), limits=limits)
    outcome = check(manifest, Twin(), Tampered(MISTAKES[mistake], lambda *_: None), which="quick")
    failed = [r.case for r in outcome.records if r.verdict == "failed" and not r.case.startswith("refuses")]
    assert failed, mistake
