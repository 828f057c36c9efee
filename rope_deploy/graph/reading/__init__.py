"""Read the rotations of an ONNX file by any exporter, without running it and without its weights."""

from rope_deploy.graph.reading.read_rotations import read_rotations
from rope_deploy.graph.reading.records import FoundSite, FoundTable, Precision, Reading, Unread, Unreadable

__all__ = ["FoundSite", "FoundTable", "Precision", "Reading", "Unread", "Unreadable", "read_rotations"]
