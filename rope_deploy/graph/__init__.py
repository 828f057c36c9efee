"""Graphs: raise every rotation to a marker, tabulate it, lower the marker to a style.

Imports nothing: what runs a graph needs `graph.io` and none of the libraries that change one.
"""
