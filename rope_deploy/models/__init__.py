"""Load a model, run it as the reference, and trace it to an ONNX graph."""

from rope_deploy.models.companions import save_companions
from rope_deploy.models.exact import Widened
from rope_deploy.models.load import LoadedModel, is_tower, load_model, read_config, wrap
from rope_deploy.models.reference import Exact, run_reference, run_shaken
from rope_deploy.models.trace import trace
from rope_deploy.models.untouched import Piece, run_untouched

__all__ = [
    "Exact",
    "LoadedModel",
    "Piece",
    "Widened",
    "is_tower",
    "load_model",
    "read_config",
    "run_reference",
    "run_shaken",
    "run_untouched",
    "save_companions",
    "trace",
    "wrap",
]
