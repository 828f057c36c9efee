"""`inspect`: say what rotation something holds, where, in which form, and what to watch out for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rope_deploy.artifact import Manifest, changed_files, load_manifest
from rope_deploy.errors import RopeDeployError
from rope_deploy.graph.survey import survey
from rope_deploy.models import is_tower, read_config
from rope_deploy.report import words
from rope_deploy.rope import RopeSpec, specs_from_config, text_config
from rope_deploy.trt import load_engine_manifest

ROWS = (
    "A tower: the configuration states no rule for rows and columns of an image, or frames of a recording. "
    "Its graph shows whether it rotates, and how: export it and inspect the artifact."
)
Kind = Literal["artifact", "graph", "engine", "model"]


@dataclass(frozen=True)
class RotationView:
    """One distinct rotation: `where` says which sites or layers have it, `spec` is `RopeSpec.to_dict()` if known."""

    name: str
    where: str
    form: str
    spec: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inspection:
    """`facts` in the order to show them; `hazards` one sentence each."""

    kind: Kind
    subject: str
    facts: dict[str, str]
    rotations: tuple[RotationView, ...]
    hazards: tuple[str, ...] = ()


def inspect_subject(subject: str, *, trust_remote_code: bool = False) -> Inspection:
    """Inspect an artifact folder, an .onnx file, a TensorRT engine, or a model (folder, .gguf, hub name, factory).

    Nothing is run and no weights are read. Raises UsageError or ModelError if `subject` is none of these.
    """
    path = Path(subject)
    if (path / "rope_deploy.json").is_file():
        return _artifact(path)
    if path.suffix == ".onnx":
        return _graph(path)
    if path.suffix in (".engine", ".plan", ".trt"):
        return _engine(path)
    return _model(subject, trust_remote_code)


def _artifact(folder: Path) -> Inspection:
    manifest = load_manifest(folder)
    found = survey(folder / "model.onnx")
    hazards = list(found.hazards) + [f"{finding.code}: {finding.message}" for finding in manifest.findings]
    if changed := changed_files(folder, manifest):
        hazards.insert(0, f"Changed since the export: {', '.join(changed)}.")
    if manifest.limits.note:
        hazards.append(manifest.limits.note)
    facts = {
        "source": manifest.source,
        "model": f"{manifest.model_type}, {manifest.layers} layers, {manifest.dtype}",
        "task": manifest.task + (" with KV cache" if manifest.cache else ""),
        **_made_for(manifest),
        "style": manifest.style + (" (fused attention)" if manifest.fused_attention else ""),
        "opset": str(manifest.opset),
        "nodes": str(found.nodes),
        "positions": f"0 … {manifest.max_position - 1}, angles as in {_angles(manifest)}",
        "forms": _forms(found.forms),
        "Cos and Sin at run time": str(found.runtime_cos_sin),
    }
    rotations = tuple(
        RotationView(r.name, _sites(manifest, r.name), f"{r.source}, {r.rows} rows", r.spec) for r in manifest.rotations
    )
    return Inspection("artifact", str(folder), facts, rotations, tuple(hazards))


def _made_for(manifest: Manifest) -> dict[str, str]:
    """The sizes and numbers that the graph of a tower serves."""
    if manifest.task != "tower":
        return {}
    sizes = [f"{info.name} [{', '.join(map(str, info.shape))}]" for info in manifest.inputs]
    return {"made for": ", ".join([*sizes, *(f"{name} {fixed.values}" for name, fixed in manifest.fixed.items())])}


def _angles(manifest: Manifest) -> str:
    return "the model" if manifest.angles == "model" else "fp64"


def _sites(manifest: Manifest, name: str) -> str:
    """E.g. "layers 0–29, q (9 heads) and k (3 heads)"."""
    sites = [site for site in manifest.sites if site.spec == name]
    heads = Counter((site.role, site.num_heads) for site in sites)
    roles = " and ".join(f"{role} ({count} heads)" for role, count in sorted(heads, reverse=True))
    return f"{words.layers(sorted({site.layer for site in sites}))}, {roles}" if sites else "nowhere"


def _forms(forms: dict[str, int]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in forms.items()) or "none recognised"


def _graph(path: Path) -> Inspection:
    found = survey(path)
    facts = {
        "opset": str(found.opset),
        "nodes": str(found.nodes),
        "inputs": ", ".join(found.inputs[:6]) + (f" and {len(found.inputs) - 6} more" if len(found.inputs) > 6 else ""),
        "forms": _forms(found.forms),
        "Cos and Sin at run time": str(found.runtime_cos_sin),
    }
    return Inspection("graph", str(path), facts, (), found.hazards)


def _engine(path: Path) -> Inspection:
    built = load_engine_manifest(path)
    facts = {
        "source": built.source,
        "style": built.style or "(not exported by rope-deploy)",
        "dtype": built.dtype,
        "flavour": built.flavor,
        "compute capability": ", ".join(built.capabilities),
        "profiles": ", ".join(profile.name for profile in built.profiles),
        "size": f"{built.engine.bytes / 1e6:.1f} MB",
        "versions": ", ".join(f"{name} {number}" for name, number in built.versions.items()),
    }
    return Inspection("engine", str(path), facts, (), built.warnings)


def _model(subject: str, trust_remote_code: bool) -> Inspection:
    config = read_config(subject, trust_remote_code=trust_remote_code)
    try:
        specs, hazards = specs_from_config(config), []
    except RopeDeployError:
        if not is_tower(subject, trust_remote_code=trust_remote_code):
            raise
        specs, hazards = {}, [ROWS]
    text = text_config(config)
    layers = next((text[name] for name in ("num_hidden_layers", "n_layer", "depth") if text.get(name)), "?")
    facts = {
        "model": f"{config.get('model_type', '?')}, {layers} layers",
        "heads": f"{text.get('num_attention_heads', '?')} query, {text.get('num_key_value_heads') or 'as many'} key",
        "architecture": ", ".join(config.get("architectures") or ()) or "?",
    }
    types = list(text.get("layer_types") or ())
    rotations = tuple(
        RotationView(
            name or "rope",
            words.layers([n for n, kind in enumerate(types) if kind == name]) if name in types else "all layers",
            spec.scaling.rope_type,
            spec.to_dict(),
        )
        for name, spec in specs.items()
    )
    return Inspection("model", subject, facts, rotations, (*hazards, *_rule_hazards(specs)))


def _rule_hazards(specs: dict[str, RopeSpec]):
    for name, spec in specs.items():
        label = name or "The rotation"
        if spec.depends_on_length:
            yield (
                f"{label} changes its frequencies beyond {spec.original_max_position} positions "
                f"({spec.scaling.rope_type}): a table frozen at one length would be wrong on the other side."
            )
        if spec.mrope_section:
            yield f"{label} takes positions with {len(spec.mrope_section)} axes (M-RoPE)."
