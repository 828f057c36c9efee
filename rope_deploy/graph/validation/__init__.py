"""What an ONNX file must be before anything else here looks at it: whole, consistent, and of a size that can be held.

Every check raises `Fault` with one sentence about the file.
"""

from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.faults import Fault
from rope_deploy.graph.validation.model import check_model
from rope_deploy.graph.validation.shapes import check_shapes

__all__ = ["ExternalFiles", "Fault", "check_model", "check_shapes"]
