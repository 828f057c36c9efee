"""The TensorRT plugin library: compile it, and read what a compiled one says about itself. Neither needs TensorRT."""

from rope_deploy.trt.plugin.compile_library import build_plugin
from rope_deploy.trt.plugin.library_info import Attribute, Operator, PluginLibrary, read_library
from rope_deploy.trt.plugin.toolchain import NEEDED, Tool, Tools, find, find_tools, possible_paths

__all__ = [
    "NEEDED",
    "Attribute",
    "Operator",
    "PluginLibrary",
    "Tool",
    "Tools",
    "build_plugin",
    "find",
    "find_tools",
    "possible_paths",
    "read_library",
]
