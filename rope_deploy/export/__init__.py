"""From a loaded model to artifact folders: traced once, written once per style."""

from rope_deploy.export.prepare_model import Prepared, prepare
from rope_deploy.export.rewrite import rewrite_file
from rope_deploy.export.write_artifact import write

__all__ = ["Prepared", "prepare", "rewrite_file", "write"]
