"""How sites are written in messages."""

from __future__ import annotations

from collections.abc import Iterable


def sites_text(sites: Iterable[tuple[int, str]]) -> str:
    """E.g. "q of layers 0, 1; k of layer 1"."""
    layers: dict[str, list[int]] = {}
    for layer, role in sites:
        layers.setdefault(role, []).append(layer)
    return "; ".join(
        f"{role} of layer{'s' if len(set(found)) > 1 else ''} {', '.join(map(str, sorted(set(found))))}"
        for role, found in layers.items()
    )
