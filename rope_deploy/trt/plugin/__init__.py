"""Compile the TensorRT plugin library (of TensorRT only headers are needed) and read the description inside it."""

from rope_deploy.trt.plugin.compile_library import build_plugin
from rope_deploy.trt.plugin.library_info import Attribute, Operator, PluginLibrary, read_library
from rope_deploy.trt.plugin.toolchain import REQUIRED_TOOLS, Tool, Tools, find_tool, find_tools, possible_paths

__all__ = [
    "REQUIRED_TOOLS",
    "Attribute",
    "Operator",
    "PluginLibrary",
    "Tool",
    "Tools",
    "build_plugin",
    "find_tool",
    "find_tools",
    "possible_paths",
    "read_library",
]
