"""The result of one case: its record, and the comparisons it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rope_deploy.parity.compare_call import UnlistedRotation
from rope_deploy.parity.difference import Difference
from rope_deploy.parity.site_comparison import SiteComparison, SiteMistake
from rope_deploy.results.records import CheckRecord


@dataclass(frozen=True)
class CaseResult:
    """A case's record and what it rests on, over all calls.

    `crash`: how the runtime died or what it raised, "" if it answered. `unjudged`: it answered, and could not be
    judged. `unguarded`: how the graph answered a position that it must not answer. `named`: mistakes of a tower.
    `rotating`: the keys of the sites that PyTorch was seen to rotate. `ratios` of each call, and the number of `tokens`
    of all calls, are those of `CallComparison`.
    """

    record: CheckRecord
    sites: tuple[SiteComparison, ...] = ()
    differences: tuple[Difference, ...] = ()
    unlisted: tuple[UnlistedRotation, ...] = ()
    ratios: tuple[Mapping[str, np.ndarray], ...] = ()
    tokens: int = 0
    named: tuple[SiteMistake, ...] = ()
    rotating: frozenset[str] = frozenset()
    crash: str = ""
    unjudged: bool = False
    unguarded: str = ""

    @property
    def failed(self) -> bool:
        return self.record.verdict == "failed"
