"""Which style an engine is built from when nobody says: one table of what each flavour makes of each style."""

from __future__ import annotations

from dataclasses import dataclass

from rope_deploy.trt.flavors import Flavor

AUTO = "auto"


@dataclass(frozen=True)
class Choice:
    """A style, and what the flavour makes of it."""

    style: str
    why: str


_NATIVE = Choice("onnx", "RotaryEmbedding becomes the flavour's own layer")
_STANDARD = Choice("tables", "standard operators, which every version takes")
_BODY = Choice("plugin", "without a plugin library its body of standard operators is inlined")
_LIBRARY = Choice("plugin", "the plugin library rotates q and k in one kernel")
# Last: GroupQueryAttention, its usual form, is ONNX Runtime's alone. Without it, its rotations are taken as native.
_CONTRIB = Choice("contrib", "com.microsoft.RotaryEmbedding becomes the flavour's own layer")

# (flavour, with a plugin library) -> styles, best first. TensorRT knows RotaryEmbedding from 10.15 on: an older one
# refuses it while reading the graph, and the next style is tried. TensorRT-RTX loads no plugins.
PREFERENCE: dict[tuple[str, bool], tuple[Choice, ...]] = {
    ("tensorrt", True): (_LIBRARY, _NATIVE, _STANDARD, _CONTRIB),
    ("tensorrt", False): (_NATIVE, _STANDARD, _BODY, _CONTRIB),
    ("rtx", False): (_NATIVE, _STANDARD, _BODY, _CONTRIB),
}


def preferred(flavor: Flavor, *, plugin: bool = False) -> tuple[Choice, ...]:
    """The styles that `flavor` may take, best first."""
    return PREFERENCE[flavor.name, plugin and flavor.loads_plugins]
