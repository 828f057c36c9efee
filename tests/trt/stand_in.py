"""Stands in for the vendor's build where a test needs one that misbehaves: the request's `model` says how."""

import os
import signal
import sys
import time

from rope_deploy.errors import GraphRefused, RefusedNode
from rope_deploy.trt.engine_request import BuildResult, Progress


def build(request, progress):
    progress(Progress(os.environ["POLYGRAPHY_USE_TENSORRT_RTX"]))
    print("the library prints to standard output")
    print("error: out of ideas", file=sys.stderr, flush=True)
    match request.model:
        case "abort":
            os.write(2, b"terminate called after throwing 'Unimplemented'\n")
            os.abort()
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "hang":
            open(request.output, "w").close()
            time.sleep(600)
        case "refuse":
            raise GraphRefused("It failed.", todo="Another.", nodes=(RefusedNode("Op", "name", ("inside",)),))
        case "disk":
            raise OSError(28, "No space left on device", request.output)
    return BuildResult("1.2", 0.5, ("out of ideas",))
