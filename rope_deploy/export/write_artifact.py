"""Write one style of a prepared model as an artifact folder."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rope_deploy import __version__
from rope_deploy.artifact import (
    MANIFEST_NAME,
    MODEL_NAME,
    TOLERANCES,
    Fixed,
    Manifest,
    Rotation,
    Site,
    TensorInfo,
    hash_file,
    new_folder,
    write_utf8,
)
from rope_deploy.export.audit_tables import Audited
from rope_deploy.export.prepare_model import Prepared
from rope_deploy.export.style_limits import limits_of
from rope_deploy.graph.analysis.vocabulary import vocabulary
from rope_deploy.graph.lower.cache_rows import cache_names
from rope_deploy.graph.lower.lower_rotations import Lowered, lower_rotations
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.save import Summary, save
from rope_deploy.models import LoadedModel, save_companions
from rope_deploy.models.example_inputs import Example
from rope_deploy.package_versions import package_versions
from rope_deploy.results.records import ExportRecord

RECORDED = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript")


def write(
    prepared: Prepared,
    folder: Path,
    style: str,
    *,
    opset: int | None = None,
    fused_attention: bool = True,
    force: bool = False,
) -> ExportRecord:
    """Lower `prepared` to `style` and write model, weights, manifest, config and tokenizer to `folder`.

    The folder appears complete or not at all. Raises UsageError if it exists and `force` is False.
    """
    began = time.perf_counter()
    with new_folder(Path(folder), force=force) as temporary:
        lowered = lower_rotations(
            prepared.raised,
            style,
            opset=opset,
            fused_attention=fused_attention,
            implicit_positions=prepared.loaded.counts_positions,
        )
        summary = save(lowered.model, temporary / MODEL_NAME)
        save_companions(prepared.loaded, temporary)
        manifest = _manifest(prepared, lowered, summary)
        files = dict(summary.weights)
        for path in sorted(path for path in temporary.rglob("*") if path.is_file() and path.name not in files):
            files[path.relative_to(temporary).as_posix()] = hash_file(path)
        write_utf8(temporary / MANIFEST_NAME, replace(manifest, files=files).to_json())
    return ExportRecord(
        style=style,
        folder=str(folder),
        opset=lowered.opset,
        nodes=summary.nodes,
        sites=len(lowered.sites),
        rotations=len(prepared.raised.rotations),
        bytes=sum(info.bytes for info in files.values()),
        seconds=time.perf_counter() - began,
        findings=tuple(finding.message for finding in prepared.findings),
        runtime_cos_sin=summary.runtime_cos_sin,
    )


def _manifest(prepared: Prepared, lowered: Lowered, summary: Summary) -> Manifest:
    loaded = prepared.loaded
    return Manifest(
        source=loaded.source,
        model_type=loaded.model_type,
        task=loaded.task,
        cache=prepared.cache,
        layers=_layers(loaded, lowered),
        style=lowered.style,
        opset=lowered.opset,
        dtype=loaded.dtype,
        angles=prepared.angles,
        max_position=prepared.max_position,
        fused_attention=lowered.fused,
        inputs=tuple(TensorInfo(*described) for described in summary.inputs),
        outputs=tuple(TensorInfo(*described) for described in summary.outputs),
        rotations=tuple(_rotation(one, lowered) for one in prepared.audited),
        sites=tuple(
            _site(site) for site in sorted(lowered.sites, key=lambda s: (s.layer, s.occurrence, s.role == "k"))
        ),
        tolerances=TOLERANCES[loaded.dtype],
        vocab_size=vocabulary(lowered.model.graph) or loaded.vocab_size,
        fixed=_fixed(prepared.example),
        limits=limits_of(lowered, prepared.tokens),
        findings=prepared.findings,
        patches=prepared.patches,
        versions=_versions(),
    )


def _layers(loaded: LoadedModel, lowered: Lowered) -> int:
    """The number of layers: what the configuration states, at least those that rotate; of a tower, those alone."""
    rotating = 1 + max((site.layer for site in lowered.sites), default=-1)
    return rotating if loaded.task == "tower" else max(loaded.layers, rotating)


def _fixed(example: Example | None) -> dict[str, Fixed]:
    given = {} if example is None else example.fixed
    return {name: Fixed(str(tensor.numpy().dtype), tensor.tolist()) for name, tensor in given.items()}


def _rotation(audited: Audited, lowered: Lowered) -> Rotation:
    rotation = audited.rotation
    cos, sin = cache_names(lowered.model, rotation)
    return Rotation(
        name=rotation.name,
        spec=audited.spec.to_dict() if audited.spec else {},
        cos_cache=cos,
        sin_cache=sin,
        rows=len(rotation.table.cos),
        cos_sin=rotation.table.kind,
        axes=rotation.table.axes,
        rotary_dim=rotation.rotary_dim,
        interleaved=rotation.interleaved,
        element_order=rotation.element_order,
    )


def _site(site: LoweredSite) -> Site:
    return Site(
        layer=site.layer,
        role=site.role,
        rotation=site.rotation,
        num_heads=site.num_heads,
        head_dim=site.head_dim,
        layout=site.layout,
        input=site.input.name if site.input is not None else None,
        output=site.output.name if site.output is not None else None,
        present=site.present,
        scores=site.scores,
        scale=site.scale,
        occurrence=site.occurrence,
    )


def _versions() -> dict[str, str]:
    return {"rope_deploy": __version__, **package_versions(RECORDED, absent="?")}
