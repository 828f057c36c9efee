"""Load a model, run it as the reference, and trace it to an ONNX graph."""

from rope_deploy.models.loading.companion_files import save_companions
from rope_deploy.models.loading.load import LoadedModel, is_tower, load_model, read_config, wrap
from rope_deploy.models.reference.run_reference import Exact, run_reference, run_shaken
from rope_deploy.models.reference.untouched import Piece, run_untouched
from rope_deploy.models.reference.wider_type import Widened
from rope_deploy.models.tracing.trace import trace

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
