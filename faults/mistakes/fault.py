"""One mistake, and how it gets into a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from faults.artifact_graph import Graph
from faults.plant_rotation import AppliedRotation, Sound, plant, sites_of

RotationChange = Callable[[Sound], AppliedRotation | None]
Plant = Callable[[Graph, Collection[int] | None, bool], tuple[int, ...]]


@dataclass(frozen=True)
class Fault:
    """A mistake that `check` must name `code`.

    `plant(graph, layers, natural)` puts it into those layers (None: all it applies to), by what the style offers or by
    standard operators, and returns the layers that are wrong then; () where it does not apply, or not in this way.
    `long` faults need positions in the thousands to be told from their neighbours. A fault that `hides` gives no
    number, so that of the layers behind the first nothing can be said.
    """

    id: str
    code: str
    plant: Plant
    per_layer: bool = True
    dtypes: tuple[str, ...] = ("float32", "float16")
    long: bool = False
    hides: bool = False


def at_sites(edit: RotationChange, roles: Collection[str] = ("q", "k")) -> Plant:
    """Plants what `edit` makes of a site's rotation (None: this site has no such mistake) into q, k or both."""

    def planted(graph: Graph, layers: Collection[int] | None, natural: bool) -> tuple[int, ...]:
        made: dict[str, AppliedRotation | None] = {}
        wrong = []
        for sound in sites_of(graph, layers):
            if sound.site.rotation not in made:
                made[sound.site.rotation] = edit(sound)
            applied = made[sound.site.rotation]
            if applied is not None and sound.site.role in roles:
                wrong.append((sound, applied))
        if not wrong or not plant(graph, wrong, natural=natural):
            return ()
        return tuple(sorted({sound.site.layer for sound, _ in wrong}))

    return planted
