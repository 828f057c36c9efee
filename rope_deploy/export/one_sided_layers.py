"""Layers in which one of q and k is rotated and the other is not: right in some models, a mistake in most."""

from __future__ import annotations

from collections import defaultdict

from rope_deploy.artifact import Finding
from rope_deploy.export.audit_tables import Whose
from rope_deploy.graph.markers import Raised
from rope_deploy.results import wording


def one_sided(raised: Raised, of: Whose) -> tuple[Finding, ...]:
    """A finding for the layers with a rotated q and no rotated k of their own, and one for the reverse.

    Layers that attend to the k of another layer are among them: their k is rotated there.
    """
    roles: dict[int, set[str]] = defaultdict(set)
    for node in raised.markers():
        roles[node.attributes["layer"].value].add(node.attributes["role"].value)
    found = []
    for role, other in (("q", "k"), ("k", "q")):
        if layers := sorted(layer for layer, rotated in roles.items() if rotated == {role}):
            text = f"In {wording.layers(layers)} the {of} rotates {role} and no {other} of their own; it is written so."
            found.append(Finding("one-sided", "info", text))
    return tuple(found)
