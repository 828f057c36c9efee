"""The styles: how an exported graph may write a rotation. One record a style, and no other list of their names.

A new style is a record here, its operators in `graph/rotating_operators.py`, its lowering in `graph/lower/`, its
test and a line of docs. The command line, the TOML reader, the manifest, the reader of files, the preference
of engines and the gates of `ci` derive from STYLES.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rope_deploy.errors import UsageError


@dataclass(frozen=True)
class EngineChoice:
    """What TensorRT makes of a style: `reason`, and its `rank` among the styles (the least is tried first).

    `library_rank` and `library_reason` hold where a plugin library is given and can be loaded; None: the same.
    """

    rank: int
    reason: str
    library_rank: int | None = None
    library_reason: str | None = None

    def rank_with(self, library: bool) -> int:
        return self.rank if self.library_rank is None or not library else self.library_rank

    def reason_with(self, library: bool) -> str:
        return self.reason if self.library_reason is None or not library else self.library_reason


@dataclass(frozen=True)
class Style:
    """One way to write a rotation.

    oldest_opset     the oldest ONNX opset that a graph of this style can have; None: any that is supported
    engine           what an engine builder makes of it
    fuses_attention  it writes attention and rotation as one operator where it can, unless --no-fused-attention
    """

    name: str
    engine: EngineChoice
    oldest_opset: int | None = None
    fuses_attention: bool = False


_RECORDS = (
    Style(
        "tables",
        engine=EngineChoice(2, "standard operators, which every version takes"),
    ),
    Style(
        "onnx",
        engine=EngineChoice(1, "RotaryEmbedding becomes the flavour's own layer"),
        oldest_opset=23,  # the one that brought RotaryEmbedding
    ),
    Style(
        "contrib",
        # Last: GroupQueryAttention, its usual form, is ONNX Runtime's alone. Without it, its rotations are native.
        engine=EngineChoice(4, "com.microsoft.RotaryEmbedding becomes the flavour's own layer"),
        fuses_attention=True,
    ),
    Style(
        "plugin",
        engine=EngineChoice(
            3,
            "without a plugin library its body of standard operators is inlined",
            library_rank=0,
            library_reason="the plugin library rotates q and k in one kernel",
        ),
    ),
)
STYLES: Mapping[str, Style] = {style.name: style for style in _RECORDS}
# For annotations that pydantic validates: a type checker sees a string, since the names are computed.
StyleName = Literal[tuple(STYLES)]


def opset_needed(style: str, opset: int | None) -> int | None:
    """The opset that `style` begins with, where `opset`, which was asked for, is older; None where they fit."""
    oldest = STYLES[style].oldest_opset
    return oldest if oldest is not None and opset is not None and opset < oldest else None


def require_styles(names: Iterable[str]) -> None:
    """Raise UsageError for a style that does not exist, for one given twice, and for none at all."""
    names = tuple(names)
    strange = [name for name in names if name not in STYLES]
    if strange or not names or len(set(names)) != len(names):
        raise UsageError(
            f"Unknown style {', '.join(map(repr, strange))}." if strange else "Give each style once, and at least one.",
            exists=f"Styles: {', '.join(STYLES)}.",
        )
