"""Load a model, run it as the reference, and trace it to an ONNX graph."""

from rope_deploy.models.loaded_model import LoadedModel
from rope_deploy.models.loading.companion_files import save_companions
from rope_deploy.models.loading.load import is_tower, load_model, read_config, wrap
from rope_deploy.models.patches.patched import patched
from rope_deploy.models.reference.run_reference import Exact, run_perturbed, run_reference
from rope_deploy.models.reference.run_untouched import Piece, run_untouched, run_untouched_tower
from rope_deploy.models.reference.wider_type import Widened
from rope_deploy.models.tracing.trace import Traced, trace

__all__ = [
    "Exact",
    "LoadedModel",
    "Piece",
    "Traced",
    "Widened",
    "is_tower",
    "load_model",
    "patched",
    "read_config",
    "run_perturbed",
    "run_reference",
    "run_untouched",
    "run_untouched_tower",
    "save_companions",
    "trace",
    "wrap",
]
