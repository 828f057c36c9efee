"""Rotary position embeddings, numpy only: scaling rules, specifications, tables, the reference rotation."""

from __future__ import annotations

from rope_deploy.rope.from_config import specs_from_config, text_config
from rope_deploy.rope.positions import longest, positions_from_mask
from rope_deploy.rope.rotate import rotate
from rope_deploy.rope.rules import (
    RULES,
    Default,
    DynamicNTK,
    Linear,
    Llama3,
    LongRope,
    NtkAlpha,
    Proportional,
    Scaling,
    Yarn,
)
from rope_deploy.rope.spec import RopeSpec
from rope_deploy.rope.tables import Angles, by_pair, cos_sin, from_angles, rows_at, tables

__all__ = [
    "RULES",
    "Angles",
    "Default",
    "DynamicNTK",
    "Linear",
    "Llama3",
    "LongRope",
    "NtkAlpha",
    "Proportional",
    "RopeSpec",
    "Scaling",
    "Yarn",
    "by_pair",
    "cos_sin",
    "from_angles",
    "longest",
    "positions_from_mask",
    "rotate",
    "rows_at",
    "specs_from_config",
    "tables",
    "text_config",
]
