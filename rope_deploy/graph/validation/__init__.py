"""Check what an ONNX file must be before anything else reads it: whole, consistent, and of a size that memory can hold.

Every check raises `Unsound` with one sentence about the file.
"""

from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.model import check_model
from rope_deploy.graph.validation.shapes import check_shapes
from rope_deploy.graph.validation.unsound_error import Unsound

__all__ = ["ExternalFiles", "Unsound", "check_model", "check_shapes"]
