"""One run as a TOML file: what to export, build, check and time, and which figures must hold.

`load_config(path)` reads a file and returns a frozen `RunConfig`, or raises one `ConfigError` with every fault
in it. Nothing here touches a model: paths and packages are looked for by `model_source`, when the run starts.
"""

from rope_deploy.config.model_source import model_source, with_source
from rope_deploy.config.read_toml import decode_config, load_config
from rope_deploy.config.schema import (
    MOST_THREADS,
    BenchSection,
    BuildSection,
    CheckSection,
    ExportSection,
    GatesSection,
    GenerateSection,
    ModelSection,
    OutputSection,
    RunConfig,
)

__all__ = [
    "MOST_THREADS",
    "BenchSection",
    "BuildSection",
    "CheckSection",
    "ExportSection",
    "GatesSection",
    "GenerateSection",
    "ModelSection",
    "OutputSection",
    "RunConfig",
    "decode_config",
    "load_config",
    "model_source",
    "with_source",
]
