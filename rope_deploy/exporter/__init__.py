"""From a loaded model to artifact folders: traced once, written once per style."""

from rope_deploy.exporter.prepare import Prepared, prepare
from rope_deploy.exporter.rewrite import rewrite_file
from rope_deploy.exporter.write import write

__all__ = ["Prepared", "prepare", "rewrite_file", "write"]
