"""Graphs: raise every rotation to a marker, tabulate it, lower the marker to a style."""

from rope_deploy.graph.clean import clean
from rope_deploy.graph.lower import STYLES, Lowered, lower
from rope_deploy.graph.lower.rows import cache_names
from rope_deploy.graph.lower.site import LoweredSite
from rope_deploy.graph.raising import Raised, RaisedRotation, raise_rotations
from rope_deploy.graph.rewrite import Rewritten, rewrite_file
from rope_deploy.graph.save import Summary, save
from rope_deploy.graph.tabulate import Table

__all__ = [
    "STYLES",
    "Lowered",
    "LoweredSite",
    "Raised",
    "RaisedRotation",
    "Rewritten",
    "Summary",
    "Table",
    "cache_names",
    "clean",
    "lower",
    "raise_rotations",
    "rewrite_file",
    "save",
]
