"""Build an engine in a child process: a library that aborts ends that build alone.

Polygraphy fixes the flavour when it is imported, and a build can be stopped only by ending its process.
"""

from __future__ import annotations

from collections.abc import Callable

from rope_deploy.childprocess import ChildDied, Task, run_in_child
from rope_deploy.errors import VendorError
from rope_deploy.trt.engine_request import BuildResult, EngineRequest, Progress
from rope_deploy.trt.flavors import FLAVORS

BUILD = "rope_deploy.trt.vendor_build:build"
LAST_LINES = 12


def build_in_child(request: EngineRequest, progress: Callable[[Progress], None] | None = None) -> BuildResult:
    """Build in a child process; when this call ends, however it ends, the child has ended too.

    Raises what `vendor_build.build` raises, and VendorError if the child died.
    """
    variables = {"POLYGRAPHY_USE_TENSORRT_RTX": "1" if request.flavor == "rtx" else "0"}
    task = Task(BUILD, (request,), reports=True)
    try:
        return run_in_child(task, progress, variables=variables, lines=LAST_LINES)
    except ChildDied as death:
        raise VendorError(
            f"{FLAVORS[request.flavor].module} {death} while building {request.model}.",
            exists=f"Its last words:\n{death.last_words or '  (nothing)'}",
            todo="The system ends processes this way when memory runs out." if death.was_killed else "",
        ) from None
