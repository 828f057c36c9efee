"""Which style an engine is built from when none is named: the order in `rope_deploy.styles`, by flavour."""

from __future__ import annotations

from dataclasses import dataclass

from rope_deploy.styles import STYLES
from rope_deploy.trt.flavors import Flavor


@dataclass(frozen=True)
class Choice:
    """A style, and what the flavour makes of it."""

    style: str
    why: str


def preferred(flavor: Flavor, *, plugin: bool = False) -> tuple[Choice, ...]:
    """The styles that `flavor` may take, best first; `plugin` says whether a plugin library is given.

    TensorRT knows RotaryEmbedding from 10.15 on: an older one refuses it while reading the graph, and the next style is
    tried. TensorRT-RTX loads no plugins.
    """
    with_library = plugin and flavor.loads_plugins
    ranked = sorted(STYLES.values(), key=lambda style: style.engine.rank_with(with_library))
    return tuple(Choice(style.name, style.engine.reason_with(with_library)) for style in ranked)
