"""Mistakes on purpose: RoPE faults planted into exported graphs, to see whether `check` names each of them.

    graph       an artifact's graph, opened for surgery
    turn        what a rotation site does, and how it is made to do something else
    faults      the mistakes: a table of frozen dataclasses, by what goes wrong
    families    the tiny models they are planted into
    workshop    exports, references and checks, each made once
    matrix      every fault in every style, type and layer; untouched artifacts for false alarms

`python -m faults --all` runs everything, `python -m faults.demo` breaks SmolLM2 in twelve ways.
"""
