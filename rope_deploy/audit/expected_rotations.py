"""What a file should hold: by a configuration, or by the manifest of an artifact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rope_deploy.artifact import Manifest
from rope_deploy.rope import RopeSpec, specs_from_config, text_config
from rope_deploy.rope.bounds import require_positions
from rope_deploy.rope.rotating_layers import rotating_layers

LayerRole = tuple[int, str]


@dataclass(frozen=True)
class Expected:
    """The rotations of a model, and where they apply.

    `specs` are named by a layer type, or by a rotation of a manifest ("" where there is one rule). `rules` holds the
    name of the spec of each (layer, "q" or "k"): None where that is not known, "" where any of the specs may apply.
    `sites` is the number of sites, more than `rules` where an indexer rotates a q and a k of its own; None where a
    configuration does not state it. `sections` are those of M-RoPE. `max_position`: positions that must be served.
    `accepted`: specs whose tables are known to differ, with the finding that says so. `source` is what it was read
    from, as messages name it. `notes` are what a reader should know of that.
    """

    source: str
    specs: Mapping[str, RopeSpec]
    rules: Mapping[LayerRole, str] | None
    max_position: int
    accepted: Mapping[str, str]
    sites: int | None = None
    sections: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def for_layers(self, numbered: bool) -> Expected:
        """The same, without `rules` if the layers of a file are only counted, and not numbered."""
        return self if numbered else replace(self, rules=None)

    def spec_of(self, layer: int, role: str) -> str | None:
        """The name of the spec of a layer's q or k; None if any may apply."""
        name = (self.rules or {}).get((layer, role))
        if name in self.specs:
            return name
        return next(iter(self.specs)) if len(self.specs) == 1 else None


def from_config(config: Mapping[str, Any], source: str, *, max_position: int | None = None) -> Expected:
    """The rotations that a configuration states, for `max_position` positions or as many as it states.

    Raises ModelError (no rotation is stated), UsageError (an unknown rope type), ConfigError (every fault).
    """
    config, specs, notes = _read(config, source)
    require_positions(max_position or max(spec.reach for spec in specs.values()), f"as {source} says")
    layers = rotating_layers(config)
    indexed = text_config(config).get("index_head_dim") is not None
    return Expected(
        source=source,
        specs={name: replace(spec, mrope_section=()) for name, spec in specs.items()},
        rules=None if layers is None else {(n, role): name for n, name in layers.items() for role in ("q", "k")},
        max_position=max_position or max(spec.reach for spec in specs.values()),
        accepted={},
        sites=None if layers is None or indexed else 2 * len(layers),
        sections=next((spec.mrope_section for spec in specs.values() if spec.mrope_section), ()),
        notes=notes,
    )


def _read(config: Mapping[str, Any], source: str) -> tuple[Mapping[str, Any], dict[str, RopeSpec], tuple[str, ...]]:
    """`config` as transformers' class for its model type reads it, its rotations, and notes.

    Where transformers is not installed, the file is read as it is written, and a note says so.
    """
    try:  # here and not above: importing audit loads no PyTorch (tests/test_light_import.py)
        from rope_deploy.models.loading.stated_rotation import stated_rotation
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        note = f"{source} was read as it is written: transformers, which knows the defaults of its class, is missing."
        return config, specs_from_config(config), (note,)
    read = stated_rotation(config)
    return read.config, read.specs, ()


def from_manifest(manifest: Manifest) -> Expected | None:
    """The rotations that a manifest states; None where it states no rule, as for rows and columns of an image."""
    specs = {one.name: RopeSpec.from_dict(one.spec) for one in manifest.rotations if one.spec}
    if not specs:
        return None
    differing = [finding.message for finding in manifest.findings if finding.unlike_configuration]
    accepted = {name: text for name in specs for text in reversed(differing) if text.startswith(f"{name}:")}
    return Expected(
        source="its manifest",
        specs={name: replace(spec, mrope_section=()) for name, spec in specs.items()},
        rules=_rules(manifest),
        max_position=manifest.max_position,
        accepted=accepted,
        sites=len(manifest.sites),
    )


def _rules(manifest: Manifest) -> dict[LayerRole, str]:
    rules: dict[LayerRole, set[str]] = defaultdict(set)
    for site in manifest.sites:
        rules[site.layer, site.role].add(site.rotation)
    return {key: min(found) if len(found) == 1 else "" for key, found in rules.items()}
