"""The list of rules is complete, and a new rule needs one line in it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rope_deploy.rope import RULES, Linear, RopeSpec, Scaling, specs_from_config


def test_every_rule_of_transformers_is_known() -> None:
    unknown = (set(ROPE_INIT_FUNCTIONS) | {"default"}) - set(RULES)
    assert not unknown, f"transformers has rules this package does not: {sorted(unknown)}"


def test_a_rule_carries_the_name_it_is_listed_under() -> None:
    assert {name: rule.rope_type for name, rule in RULES.items()} == {name: name for name in RULES}


def test_rules_are_frozen_dataclasses_with_a_source_in_their_file() -> None:
    for rule in RULES.values():
        assert dataclasses.is_dataclass(rule)
        with pytest.raises(dataclasses.FrozenInstanceError):
            object.__new__(rule).factor = 2.0  # type: ignore[attr-defined]
        assert "transformers" in (rule.__doc__ or "")


def test_a_new_rule_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Halved(Linear):
        """Half the linear rule."""

        rope_type: ClassVar[str] = "halved"

    monkeypatch.setitem(RULES, "halved", Halved)
    config = {"model_type": "new", "head_dim": 8, "max_position_embeddings": 64}
    spec = specs_from_config({**config, "rope_parameters": {"rope_type": "halved", "factor": 2.0}})[""]
    assert isinstance(spec.scaling, Scaling)
    assert RopeSpec.from_dict(spec.to_dict()) == spec
    np.testing.assert_allclose(spec.inv_freq()[0], 0.5)
