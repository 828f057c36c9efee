"""Graphs: every rotation is raised to a marker, tabulated, and lowered to a style.

    rotating_operators, io, validation
                                  which operators rotate; files that are sound
    builder, head_layout, standard_rotation
                                  insert nodes
    analysis                      reads a graph, changes nothing
    markers                       what rotations are between raising and lowering
    passes                        change a graph, keep what it computes; run by `passes.sequences`
    raising                       finds rotations, takes their tables from a position source, marks them
    lower                         writes markers in a style
    reading                       what a file of any exporter holds
    rewrite, save                 a file in another style; a file

Each may use those above it. This module imports nothing: what runs a graph needs `graph.io` and none of the libraries
that change one.
"""
