"""`inspect`: what rotation something holds, where, in which form, and what to watch out for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rope_deploy.artifact import MODEL_NAME, Manifest, changed_files, load_manifest
from rope_deploy.artifact.subject import Kind, subject_of
from rope_deploy.childprocess import Limits, call
from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.graph.reading.survey import Survey
from rope_deploy.models import is_tower, read_config
from rope_deploy.models.loading.stated_rotation import specs_to_compare
from rope_deploy.results import wording
from rope_deploy.rope import RopeSpec, text_config
from rope_deploy.rope.rotating_layers import rotating_layers
from rope_deploy.trt import engine_mismatch, load_engine_manifest

ROWS = (
    "A tower: the configuration states no rule for rows and columns of an image, or frames of a recording. "
    "Its graph shows whether it rotates, and how: export it and inspect the artifact."
)
UNSTATED = (
    "The configuration states no rotation that is read here. The model's graph shows whether it rotates, and how: "
    "export it and inspect the artifact."
)
InspectedKind = Literal["artifact", "graph", "engine", "model"]


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

    kind: InspectedKind
    subject: str
    facts: dict[str, str]
    rotations: tuple[RotationView, ...]
    hazards: tuple[str, ...] = ()


SUBJECTS = (
    "Give an artifact's folder, an .onnx file, an engine (.engine, .plan, .trt), a Hugging Face folder, a .gguf file, "
    "a hub name (owner/name) or package.module:factory."
)


def inspect_subject(subject: str, *, trust_remote_code: bool = False) -> Inspection:
    """Inspect an artifact folder, an .onnx file, a TensorRT engine, or a model (folder, .gguf, hub name, factory).

    Nothing is run. Of a graph's weights only tables and small constants are read; the files of an artifact or engine
    are hashed, to say whether they changed. Raises UsageError or ModelError if `subject` is none of these.
    """
    found = subject_of(subject)
    match found.kind:
        case Kind.ARTIFACT:
            return _artifact(found.path)
        case Kind.GRAPH | Kind.ARTIFACT_GRAPH:
            return _graph(found.path)
        case Kind.ENGINE:
            return _engine(found.path)
        case Kind.OTHER_FILE:
            raise UsageError(f"{subject} is a file of an unknown kind.", todo=SUBJECTS)
        case Kind.OTHER_FOLDER if inside := found.inside:
            raise UsageError(
                f"{subject} holds several artifacts, and one is looked at.",
                exists=f"There are {', '.join(artifact.name for artifact in inside)}.",
                todo="Name one of them.",
            )
    return _model(subject, trust_remote_code)


def _artifact(folder: Path) -> Inspection:
    manifest = load_manifest(folder)
    found = _survey(folder / MODEL_NAME)
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
        "patched in the trace": ", ".join(manifest.patches) or "nothing",
        "Cos and Sin at run time": str(found.runtime_cos_sin),
    }
    rotations = tuple(
        RotationView(r.name, _sites(manifest, r.name), f"{r.cos_sin}, {r.rows} rows", r.spec)
        for r in manifest.rotations
    )
    return Inspection("artifact", str(folder), facts, rotations, tuple(hazards))


def _survey(path: Path) -> Survey:
    """Read the file in a process of its own: whoever wrote it, reading it harms nobody."""
    return call("rope_deploy.graph.reading.survey:survey", path, doing=f"Reading {path}", limits=Limits.of_file(path))


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
    sites = [site for site in manifest.sites if site.rotation == name]
    heads = Counter((site.role, site.num_heads) for site in sites)
    roles = " and ".join(f"{role} ({count} heads)" for role, count in sorted(heads, reverse=True))
    return f"{wording.layers(sorted({site.layer for site in sites}))}, {roles}" if sites else "nowhere"


def _forms(forms: dict[str, int]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in forms.items()) or "none recognised"


def _graph(path: Path) -> Inspection:
    found = _survey(path)
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
    hazards = {
        "missing": (f"The engine is missing: {path} is not here, only what was written about it.",),
        "changed": ("Changed since the build: the engine is not the one described here.",),
    }.get(engine_mismatch(path, built), ())
    return Inspection("engine", str(path), facts, (), (*hazards, *built.warnings))


def _model(subject: str, trust_remote_code: bool) -> Inspection:
    config = read_config(subject, trust_remote_code=trust_remote_code)
    try:
        specs = specs_to_compare(config)
        hazards = [] if specs else [UNSTATED]
    except RopeDeployError:
        if not is_tower(subject, trust_remote_code=trust_remote_code):
            raise
        specs, hazards = {}, [ROWS]
    text = text_config(config)
    layers = next((text[name] for name in ("num_hidden_layers", "n_layer", "depth") if text.get(name)), "?")
    facts = {
        "model": f"{config.get('model_type', '?')}, {layers} layers",
        "heads": f"{text.get('num_attention_heads', '?')} query, {text.get('num_key_value_heads') or 'as many'} key",
        "architecture": _listed(config.get("architectures")),
    }
    rotating = rotating_layers(config)
    rotations = tuple(
        RotationView(name or "rope", _layers(name, rotating, layers), spec.scaling.rope_type, spec.to_dict())
        for name, spec in specs.items()
    )
    return Inspection("model", subject, facts, rotations, (*hazards, *_rule_hazards(specs)))


def _layers(name: str, rotating: Mapping[int, str] | None, count: Any) -> str:
    """The layers of rotation `name`, a layer type or "" for the only one, as far as the configuration says."""
    if rotating is None:
        return "layers of which the configuration does not say the numbers"
    if name.startswith("rope_theta "):  # bases that differ by layer, which is no layer type
        return "some of its layers"
    numbers = [number for number, kind in rotating.items() if kind == name or not name]
    if not numbers:
        return "none of its layers"
    return "all layers" if len(numbers) == count else wording.layers(numbers)


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


def _listed(value: Any) -> str:
    """The entries of a list that a configuration states, or the one value that it states instead."""
    return ", ".join(map(str, value if isinstance(value, list | tuple) else [value])) if value else "?"
