"""All that is known of one site: its stated rule, its observations, and what can be measured from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rope_deploy.diagnosis.hypothesis import Hypothesis, hypothesis_of_rule
from rope_deploy.diagnosis.measured_rotation import Multipliers, multipliers
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.rope import Angles, RopeSpec


@dataclass(frozen=True)
class Evidence:
    """A site with the rule `spec`, in a graph whose tables have `rows` rows; `angles` says how its tables are computed.

    `others` are the rules of other layers, by name.
    """

    spec: RopeSpec
    rows: int
    angles: Angles = "model"
    observations: Sequence[Observation] = ()
    others: Mapping[str, RopeSpec] = field(default_factory=dict)

    @cached_property
    def stated(self) -> Hypothesis:
        """What a site that follows `spec` does."""
        return hypothesis_of_rule(self.spec, self.rows, self.angles)

    @cached_property
    def ratios(self) -> list[float]:
        """The error of each observation against the stated rule, in units of what rounding explains."""
        return [self.stated.ratio(one, exactly=True) for one in self.observations]

    @cached_property
    def wrong(self) -> list[Observation]:
        """The observations in which the site does not follow its rule."""
        return [one for one, ratio in zip(self.observations, self.ratios, strict=True) if ratio > 1]

    @property
    def worst_first(self) -> list[Observation]:
        """All observations, the worst leading: most hypotheses fail at the first one."""
        order = sorted(range(len(self.observations)), key=lambda number: -self.ratios[number])
        return [self.observations[number] for number in order]

    @cached_property
    def multipliers(self) -> list[Multipliers]:
        """The multiplier of each pair and token, measured in each observation."""
        return [self._measured(one) for one in self.observations]

    @cached_property
    def wrong_multipliers(self) -> list[tuple[Multipliers, int]]:
        """The multipliers of each wrong observation, and the length of its call in tokens."""
        return [(self._measured(one), int(one.positions.max()) + 1) for one in self.wrong]

    def _measured(self, one: Observation) -> Multipliers:
        return multipliers(one, interleaved=self.spec.interleaved, pairs=self.spec.rotary_dim // 2)
