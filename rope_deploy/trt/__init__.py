"""TensorRT engines: the two flavours, how they are built, and the manifest beside each engine."""

from rope_deploy.trt.engine_build import build_engine
from rope_deploy.trt.engine_manifest import (
    EngineManifest,
    load_engine_manifest,
    manifest_path,
    refuse_foreign_engine,
    state_of,
)
from rope_deploy.trt.engine_request import Progress
from rope_deploy.trt.flavors import FLAVORS, Flavor, Gpu, find_flavor, gpus, installed_version, require
from rope_deploy.trt.profiles import Profile, Range
from rope_deploy.trt.style_preference import Choice, preferred

__all__ = [
    "FLAVORS",
    "Choice",
    "EngineManifest",
    "Flavor",
    "Gpu",
    "Profile",
    "Progress",
    "Range",
    "build_engine",
    "find_flavor",
    "gpus",
    "installed_version",
    "load_engine_manifest",
    "manifest_path",
    "preferred",
    "refuse_foreign_engine",
    "require",
    "state_of",
]
