"""Run as a program: load the library into the plugin registry of the tensorrt_lean that is on the path.

python -m tests.plugins.in_registry LIB.so < [[operator, {attribute: values}], ...] > what was found, as JSON
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tensorrt_lean_bindings as trt


def identity(plugin) -> list | None:
    """What TensorRT sees of a plugin; the rest of it is closed to Python where the plugin is written in C++."""
    if plugin is None:
        return None
    core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    build = plugin.get_capability_interface(trt.PluginCapabilityType.BUILD)
    runtime = plugin.get_capability_interface(trt.PluginCapabilityType.RUNTIME)
    interfaces = [(one.interface_info.kind, one.interface_info.major) for one in (plugin, core, build, runtime)]
    return [core.plugin_name, core.plugin_version, build.num_outputs, build.timing_cache_id, interfaces]


def main(library: str) -> dict:
    registry = trt.get_plugin_registry()
    before = {creator.name for creator in registry.all_creators}
    handle = registry.load_library(library)
    after = {creator.name for creator in registry.all_creators}
    found = {"version": trt.__version__, "new": sorted(after - before), "creators": {}, "plugins": []}
    for name in found["new"]:
        creator = registry.get_creator(name, "1", "")
        fields = {one.name: [one.type.name, one.size] for one in creator.field_names}
        found["creators"][name] = [creator.interface_info.kind, creator.plugin_version, fields]
    for operator, attributes in json.load(sys.stdin):
        creator = registry.get_creator(operator, "1", "")
        values, fields = [], []
        for name, value in attributes.items():
            array = np.atleast_1d(np.asarray(value, np.float32 if isinstance(value, float) else np.int32))
            kind = trt.PluginFieldType.FLOAT32 if array.dtype == np.float32 else trt.PluginFieldType.INT32
            values.append(array)  # the field only points to it
            fields.append(trt.PluginField(name, array, kind))
        plugin = creator.create_plugin("layer", trt.PluginFieldCollection(fields), trt.TensorRTPhase.BUILD)
        found["plugins"].append(identity(plugin))
    registry.deregister_library(handle)
    found["left"] = sorted({creator.name for creator in registry.all_creators} - before)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
