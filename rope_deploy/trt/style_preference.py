"""Order the styles that an engine may be built from, by the ranks in `rope_deploy.styles` and the flavour."""

from __future__ import annotations

from dataclasses import dataclass

from rope_deploy.styles import STYLES
from rope_deploy.trt.flavors import Flavor


@dataclass(frozen=True)
class StyleChoice:
    """A style, and what the flavour makes of it."""

    style: str
    why: str


def preferred_styles(flavor: Flavor, *, plugin: bool = False) -> tuple[StyleChoice, ...]:
    """All styles, best first; `plugin` says whether a plugin library is given.

    None is left out: an older TensorRT than 10.15 refuses RotaryEmbedding while reading the graph, and the caller tries
    the next style. TensorRT-RTX loads no plugins.
    """
    with_library = plugin and flavor.loads_plugins
    ranked = sorted(STYLES.values(), key=lambda style: style.engine.rank_with(with_library))
    return tuple(StyleChoice(style.name, style.engine.reason_with(with_library)) for style in ranked)
