"""Build an engine file and the manifest that lies beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from rope_deploy import __version__
from rope_deploy.artifact import hash_file, new_file, refuse_existing, staging
from rope_deploy.artifact.subject import GRAPH_ENDING
from rope_deploy.errors import ConfigError, GraphRefused, UsageError
from rope_deploy.options import BuildOptions
from rope_deploy.results.records import EngineRecord
from rope_deploy.trt.build_in_child import build_in_child
from rope_deploy.trt.engine_manifest import EngineManifest, refuse_manifest, replacing_engine
from rope_deploy.trt.engine_request import BuildResult, EngineRequest, Progress
from rope_deploy.trt.engine_source import Source, open_source
from rope_deploy.trt.flavors import Flavor, find_flavor, gpus, require_flavor
from rope_deploy.trt.refused_nodes import attribute_refusal
from rope_deploy.trt.requested_profiles import requested_profiles

RTX_DEFAULT_CAPABILITY = "8.0+"  # TensorRT-RTX's own choice when no capability is named: Ampere and everything later
TURING = "7.5"
# The first bytes of ZIP, ELF, PDF, PNG, GGUF and gzip files and of TensorRT engines: none is a timing cache.
KNOWN_SIGNATURES = (b"PK\x03\x04", b"\x7fELF", b"%PDF", b"\x89PNG", b"GGUF", b"\x1f\x8b", b"ftrt")


def build_engine(
    source: Path,
    target: Path,
    options: BuildOptions,
    *,
    chosen: str = "",
    named: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> EngineRecord:
    """Compile an artifact folder or ONNX file into the TensorRT engine `target`, with `target.json` beside it.

    `options.style` and `options.accept` are not read: `source` is built as it is. A plugin's operators take precedence
    over function bodies and native layers. The tensorrt flavour keeps its timing cache in `target.cache` by default;
    none is kept for TensorRT-RTX. Taps keep the library from fusing across q and k. For the manifest, `chosen` says why
    it is this style, and `named` where the graph will lie. Float32 is computed as float32, never as TF32.

    Raises:
        UsageError: the source, the target or an option cannot be used.
        ConfigError: the manifest, options or profiles are wrong; one sentence a fault.
        EnvironmentMissing: the flavour, a GPU, disk space or memory is absent.
        GraphRefused: the vendor does not take the graph; for an artifact it says whether a rotation was refused.
        VendorError: the vendor's library failed otherwise.
    """
    target = Path(target)
    refuse_existing(target, force=options.force)
    refuse_manifest(target)
    flavor, capabilities, plugin = find_flavor(options.flavor), options.capabilities, options.plugin
    graph = open_source(Path(source))
    if target.suffix.lower() == GRAPH_ENDING or (target.exists() and target.samefile(graph.model)):
        raise UsageError(
            f"{target} is the name of a graph, and what is built is an engine.", todo="Name it FILE.engine."
        )
    wanted = requested_profiles(options.profiles, graph.inputs, graph.manifest)
    timing_cache = options.timing_cache or (target.with_name(target.name + ".cache") if flavor.needs_gpu else None)
    _check_options(flavor, graph, capabilities, plugin, timing_cache)
    tapped = _taps(graph) if options.taps else ()
    require_flavor(flavor)
    _check_gpu(flavor, capabilities)
    with staging(target), ExitStack() as finishing:
        unfinished = finishing.enter_context(new_file(target, force=options.force))
        new_cache = unfinished.with_name(f"{unfinished.name}.cache")
        request = EngineRequest(
            flavor=flavor.name,
            model=str(graph.model.resolve()),
            output=str(unfinished.resolve()),
            profiles=tuple(profile.shapes(graph.inputs) for profile in wanted),
            capabilities=tuple(capabilities),
            plugin=str(plugin.resolve()) if plugin else None,
            timing_cache=str(timing_cache.resolve()) if timing_cache else None,
            new_cache=str(new_cache.resolve()) if timing_cache else None,
            taps=tapped,
        )
        try:
            outcome = build_in_child(request, progress)
        except GraphRefused as error:
            raise (attribute_refusal(error, graph.model, graph.manifest) if graph.manifest else error) from None
        manifest = EngineManifest(
            source=str(named or graph.model),
            files=graph.files,
            style=graph.style,
            dtype="+".join(graph.dtypes),
            flavor=flavor.name,
            capabilities=_capabilities(flavor, capabilities),
            profiles=wanted,
            inputs=graph.inputs,
            plugins={plugin.name: hash_file(plugin)} if plugin else {},
            taps=tapped,
            chosen=chosen,
            engine=hash_file(unfinished),
            seconds=round(outcome.seconds, 3),
            warnings=outcome.warnings,
            versions=_versions(flavor, outcome),
        )
        finishing = finishing.pop_all()
        with replacing_engine(target, manifest), finishing:
            pass
        if timing_cache and new_cache.exists():
            with new_file(timing_cache) as kept:
                new_cache.rename(kept)
    return manifest.to_record(target)


def _versions(flavor: Flavor, outcome: BuildResult) -> dict[str, str]:
    return {"rope-deploy": __version__, flavor.module: outcome.version, "polygraphy": version("polygraphy")}


def _check_options(
    flavor: Flavor, source: Source, capabilities: Sequence[str], plugin: Path | None, timing_cache: Path | None
) -> None:
    """Raise ConfigError for what the library would refuse later, or not survive (a plugin under rtx), all at once."""
    faults = [
        f"--compute-capability {text!r} is not MAJOR.MINOR, e.g. 8.9."
        for text in capabilities
        if not re.fullmatch(r"\d+\.\d", text)
    ]
    faults += [
        f"--compute-capability {t} is given twice."
        for t in sorted({t for t in capabilities if capabilities.count(t) > 1})
    ]
    if flavor.name == "rtx" and TURING in capabilities:
        if "bfloat16" in source.dtypes:
            faults.append(f"Capability {TURING} (Turing) has no bfloat16: export with --dtype float16.")
        elif source.manifest and source.manifest.dtype == "float32":
            faults.append(
                f"TensorRT-RTX has no float32 matrix product for {TURING} (Turing): export with --dtype float16."
            )
    if plugin and not flavor.loads_plugins:
        faults.append("TensorRT-RTX has no plugin layer: leave --plugin out (operators with a body still work).")
    elif plugin and not plugin.is_file():
        faults.append(f"--plugin {plugin}: there is no such file.")
    if timing_cache and not flavor.needs_gpu:
        faults.append("TensorRT-RTX keeps no timing cache: leave --timing-cache out (kernels are chosen at run time).")
    elif timing_cache and timing_cache.exists() and not _may_be_cache(timing_cache):
        faults.append(f"{timing_cache}: what lies there is no timing cache. Name another --timing-cache.")
    if faults:
        raise ConfigError(f"The {flavor.name} engine cannot be built as asked:", faults)


def _may_be_cache(path: Path) -> bool:
    """Whether a file may be a timing cache: no folder, text or other known format. Its own format is unknown."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        beginning = stream.read(4096)
    return not beginning or (b"\0" in beginning and not beginning.startswith(KNOWN_SIGNATURES))


def _taps(source: Source) -> tuple[str, ...]:
    """The inputs and outputs of the manifest's sites, each once. Raises UsageError for a bare file."""
    if source.manifest is None:
        raise UsageError(
            "Only the engine of an artifact has taps: a bare ONNX file does not say where its rotations are.",
            todo="Give the folder that `rope-deploy export` made.",
        )
    sites = source.manifest.sites
    return tuple(dict.fromkeys(name for site in sites for name in (site.input, site.output) if name))


def _check_gpu(flavor: Flavor, capabilities: Sequence[str]) -> None:
    """Raise UsageError for another GPU than the one here: the tensorrt flavour tunes on it and builds for it alone."""
    if flavor.needs_gpu and capabilities and tuple(capabilities) != (gpus()[0].capability,):
        raise UsageError(
            f"The tensorrt flavour cannot build for {', '.join(capabilities)} here.",
            exists=f"It builds for the GPU it runs on: {gpus()[0].name}, capability {gpus()[0].capability}.",
            todo="Leave --compute-capability out, or use --flavor rtx to build for GPUs that are elsewhere.",
        )


def _capabilities(flavor: Flavor, asked: Sequence[str]) -> tuple[str, ...]:
    """The compute capabilities of the engine, for the manifest."""
    if flavor.needs_gpu:
        return (gpus()[0].capability,)
    return tuple(asked) or (RTX_DEFAULT_CAPABILITY,)
