"""Runs the worker and turns what it reports, or how it died, into a result or one of our errors."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rope_deploy.childprocess import environment, how_ended, python
from rope_deploy.errors import ConfigError, EnvironmentMissing, GraphRefused, RefusedNode, UsageError, VendorError
from rope_deploy.trt.build_job import Job, Progress, WorkerError
from rope_deploy.trt.flavors import FLAVORS

WORKER = "rope_deploy.trt.build_worker"
LAST_LINES = 12


@dataclass(frozen=True)
class Outcome:
    """`seconds` from loading the library to the engine on disk; `warnings` are the vendor's, each once."""

    version: str
    seconds: float
    warnings: tuple[str, ...]


def run_worker(job: Job, progress: Callable[[Progress], None] | None = None, *, worker: str = WORKER) -> Outcome:
    """Build in a child process; when this call ends, however it ends, the child has ended too.

    Raises:
        GraphRefused: the library does not take the graph. VendorError: it failed, aborted or crashed.
        ConfigError: it found the shapes of a profile contradictory. UsageError: it does not know a capability.
        EnvironmentMissing: it cannot be loaded, or memory ran out.
        OSError: the engine could not be written.
    """
    said: deque[str] = deque(maxlen=LAST_LINES)
    warnings: dict[str, None] = {}
    process = subprocess.Popen(
        python("-m", worker),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(POLYGRAPHY_USE_TENSORRT_RTX="1" if job.flavor == "rtx" else "0"),
        encoding="utf-8",
        errors="replace",
    )
    listener = threading.Thread(target=lambda: said.extend(filter(str.strip, process.stderr)), daemon=True)
    finished = None
    with process:
        try:
            listener.start()
            _hand_over(process, job)
            for line in process.stdout:
                event = json.loads(line)
                match event.pop("event"):
                    case "progress" if progress:
                        progress(Progress(**event))
                    case "log":
                        said.append(f"{event['level']}: {event['text']}")
                        warnings[event["text"]] = None
                    case "failed":
                        nodes = [
                            RefusedNode(**node | {"inside": tuple(node["inside"])}) for node in event.pop("nodes", ())
                        ]
                        raise _translated(WorkerError(**event, nodes=nodes), job)
                    case "finished":
                        finished = event
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
            listener.join()
    if finished is None or process.returncode != 0:
        raise _died(process.returncode, job, list(said))
    return Outcome(finished["version"], finished["seconds"], tuple(warnings))


def _hand_over(process: subprocess.Popen[str], job: Job) -> None:
    try:
        process.stdin.write(job.to_json())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once; how it died is reported when its output ends


def _translated(error: WorkerError, job: Job) -> Exception:
    match error.kind:
        case "parse":
            text = "\n".join([error.text, *(f"  - {detail}" for detail in error.details)])
            todo = "Export with another --style or --opset, or a custom operator with --plugin."
            return GraphRefused(text, todo=todo, nodes=error.nodes)
        case "build":
            text = "\n".join([error.text, *(f"  - {detail}" for detail in error.details)])
            todo = "The vendor's message names the operator; another --dtype or --style may do."
            return GraphRefused(text, todo=todo)
        case "profile":
            return ConfigError(error.text, error.details, todo="Change the --profile options so that the shapes fit.")
        case "capability":
            rest = " It targets RTX and Ada-class GPUs; for others (9.0, 10.0) use --flavor tensorrt."
            return UsageError(error.text, exists=f"It builds for {', '.join(error.details)}." + rest)
        case "plugin":
            return VendorError("\n".join([error.text, *error.details]), todo="Build the plugin for this TensorRT.")
        case "import":
            return EnvironmentMissing(error.text, todo=f"Install it again: `{FLAVORS[job.flavor].install}`.")
        case "memory":
            return EnvironmentMissing(error.text, todo="Use a machine with more memory, or smaller profiles.")
        case "disk":
            return OSError(error.details[0] or errno.EIO, error.text, job.output)
    return VendorError(error.text)


def _died(code: int, job: Job, said: list[str]) -> VendorError:
    """The process is gone without a verdict: say how, and what was said last."""
    last = "\n".join(f"  {line.rstrip()}" for line in said) or "  (nothing)"
    todo = "The system ends processes this way when memory runs out." if -code == signal.SIGKILL else ""
    return VendorError(
        f"{FLAVORS[job.flavor].module} ended {how_ended(code)} while building {job.model}.",
        exists=f"Its last words:\n{last}",
        todo=todo,
    )
