"""`rope-deploy inspect`: look before you export, and after."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rope_deploy.cli.common import json_option, print_json
from rope_deploy.cli.console import echo

if TYPE_CHECKING:
    from rope_deploy.runs.inspect import Inspection

# What a reader looks for first; the rest of a spec belongs to --json.
SHOWN = ("rope_type", "rope_theta", "factor", "rotary_dim", "head_dim", "interleaved", "max_position")


@click.command()
@click.argument("subject", metavar="MODEL|DIR|FILE.onnx|ENGINE")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@json_option
def inspect(subject: str, trust_remote_code: bool, as_json: bool) -> None:
    """Show which rotations a model, an artifact, an ONNX file or an engine holds, in which form, and its hazards.

    Nothing is run. Of a graph's weights only tables and small constants are read; an artifact's files are hashed.
    """
    from rope_deploy import api

    found = api.inspect(subject, trust_remote_code=trust_remote_code)
    if as_json:
        print_json(asdict(found))
    else:
        echo(_description(found))


def _description(found: Inspection) -> str:
    width = max((len(label) for label in found.facts), default=0)
    lines = [f"{found.subject} ({found.kind})"]
    lines += [f"  {label:{width}}  {value}" for label, value in found.facts.items()]
    for rotation in found.rotations:
        spec = ", ".join(f"{name} {_flat(rotation.spec)[name]}" for name in SHOWN if name in _flat(rotation.spec))
        lines += [f"  {rotation.name}: {rotation.where}", f"    {rotation.form}", f"    {spec or 'rule not stated'}"]
    if found.hazards:
        lines += ["  Watch out:"] + [f"    - {hazard}" for hazard in found.hazards]
    return "\n".join(lines)


def _flat(spec: dict) -> dict:
    """Merge the keys of a spec's rule into those of the spec."""
    return {**spec, **(spec.get("rope_parameters") or {}), **(spec.get("scaling") or {})}
