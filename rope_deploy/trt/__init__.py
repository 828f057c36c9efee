"""TensorRT engines: the two flavours, how they are built, and the manifest beside each engine."""

from rope_deploy.trt.engine_build import build_engine
from rope_deploy.trt.engine_manifest import (
    EngineManifest,
    engine_mismatch,
    load_engine_manifest,
    manifest_path,
    refuse_foreign_engine,
)
from rope_deploy.trt.engine_request import Progress
from rope_deploy.trt.flavors import FLAVORS, Flavor, Gpu, find_flavor, gpus, installed_version, require_flavor
from rope_deploy.trt.profiles import Profile, Range
from rope_deploy.trt.style_preference import StyleChoice, preferred_styles

__all__ = [
    "FLAVORS",
    "EngineManifest",
    "Flavor",
    "Gpu",
    "Profile",
    "Progress",
    "Range",
    "StyleChoice",
    "build_engine",
    "engine_mismatch",
    "find_flavor",
    "gpus",
    "installed_version",
    "load_engine_manifest",
    "manifest_path",
    "preferred_styles",
    "refuse_foreign_engine",
    "require_flavor",
]
