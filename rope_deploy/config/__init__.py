"""One run as a TOML file: what to export, build, check and time, and which figures must hold.

`load_config(path)` reads a file and returns a frozen `RunConfig`, or raises one `ConfigError` with every fault
in it. Nothing here touches a model: paths and packages are looked for by `model_source`, when the run starts.
"""

from rope_deploy.config.model_source import model_source, with_source
from rope_deploy.config.read_toml import decode_config, load_config
from rope_deploy.config.schema import (
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
from rope_deploy.config.section_options import (
    bench_options,
    build_options,
    check_options,
    engine_path,
    export_options,
)

__all__ = [
    "BenchSection",
    "BuildSection",
    "CheckSection",
    "ExportSection",
    "GatesSection",
    "GenerateSection",
    "ModelSection",
    "OutputSection",
    "RunConfig",
    "bench_options",
    "build_options",
    "check_options",
    "decode_config",
    "engine_path",
    "export_options",
    "load_config",
    "model_source",
    "with_source",
]
