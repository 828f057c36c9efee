"""Load a model, run it as the reference, and trace it to an ONNX graph."""

from rope_deploy.models.companions import save_companions
from rope_deploy.models.load import LoadedModel, is_tower, load_model, read_config, wrap
from rope_deploy.models.reference import run_reference
from rope_deploy.models.trace import trace

__all__ = ["LoadedModel", "is_tower", "load_model", "read_config", "run_reference", "save_companions", "trace", "wrap"]
