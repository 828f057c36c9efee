"""Stands in for the worker where a test needs one that misbehaves: the job's `model` says how.

Run as `python -m tests.trt.stand_in`; it speaks as `rope_deploy.trt.build_worker` does, on the same channel.
"""

import os
import signal
import sys
import time

from rope_deploy.trt.build_job import Job
from rope_deploy.trt.build_worker import Channel

channel = Channel()
job = Job.from_json(sys.stdin.read())
channel.send("progress", phase=os.environ["POLYGRAPHY_USE_TENSORRT_RTX"], done=0, steps=0, depth=0)
print("the library prints to standard output")
channel.send("log", level="error", text="out of ideas")
sys.stdout.flush()
match job.model:
    case "abort":
        os.write(2, b"terminate called after throwing 'Unimplemented'\n")
        os.abort()
    case "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    case "exit":
        os._exit(3)
    case "hang":
        open(job.output, "w").close()
        time.sleep(600)
    case "finish":
        channel.send("finished", version="1.2", seconds=0.5)
    case kind:
        channel.send("failed", kind=kind, text="It failed.", details=["the first", "the second"])
