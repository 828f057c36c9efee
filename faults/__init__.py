"""Every mistake that is planted into exported graphs and artifacts, to see whether `check` and `audit` name it.

Rotations, one fault at a time (`python -m faults --all`, `python -m faults.demo` on SmolLM2):

    mistakes/           the faults: frozen dataclasses, a file for each kind
    plant_rotation      what a site does, and two ways to make it do something else
    artifact_graph      an artifact's graph, opened so that nodes can be inserted and inputs changed
    models              the models that faults are planted into: tiny ones, and a real one
    workshop            exports, references and checks, each made once
    matrix, judged      every fault in every style, type and layer; was it caught, was it named
    tf32                what a tensor core keeps of fp32
    bare_rotation       the same mistakes in numpy, on a rotation without a model: the examples of docs/diagnostics.md

Whole artifacts that no check may pass, whatever their manifest says:

    wrong_graphs        changes of an `onnx.ModelProto`
    wrong_artifacts     copies of an artifact with such changes
    manifest_edits      edits of a manifest, by path
    manifest_tampering  what somebody might write into a manifest so that a wrong artifact passes
"""
