"""Read the rotations of any ONNX file: nothing is run, and of its weights only tables and small constants are read."""

from rope_deploy.graph.reading.read_rotations import read_rotations
from rope_deploy.graph.reading.records import FoundSite, FoundTable, Precision, Reading, Unread, Unreadable

__all__ = ["FoundSite", "FoundTable", "Precision", "Reading", "Unread", "Unreadable", "read_rotations"]
