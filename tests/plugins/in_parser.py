"""Run as a program: parse an ONNX file with the library's plugins registered, printing what TensorRT-RTX says.

    python -m tests.plugins.in_parser LIB.so MODEL.onnx {override|plain}

TensorRT-RTX has no plugin layer: where its parser has made a plugin, the process aborts.
"""

from __future__ import annotations

import sys

import tensorrt_rtx as trt


class Logger(trt.ILogger):
    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: trt.ILogger.Severity, text: str) -> None:
        print(str(severity).rpartition(".")[2], text, flush=True)


def main(library: str, model: str, how: str) -> None:
    logger = Logger()
    builder = trt.Builder(logger)
    trt.get_plugin_registry().load_library(library)
    network = builder.create_network(0)  # the parser does not keep it alive
    parser = trt.OnnxParser(network, logger)
    if how == "override":
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
    print("PARSED", parser.parse_from_file(model), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
