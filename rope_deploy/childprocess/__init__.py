"""Work in a process of its own: one protocol for all that may crash, hang or take too much.

`call` runs one of our functions in a child, `RemoteObject` keeps open there what a function opened, `run_in_fork` runs
a function in a fork, for milliseconds of C++. However a child ends, it takes nobody with it.
"""

from rope_deploy.childprocess.calls import UNLIMITED, call, run_in_child, staying_here
from rope_deploy.childprocess.child import ChildDied, ChildFailed, ChildTimedOut
from rope_deploy.childprocess.fork import run_in_fork
from rope_deploy.childprocess.interpreter import environment, how_ended, python, scripts
from rope_deploy.childprocess.limits import WITHOUT_LIMITS, Limits
from rope_deploy.childprocess.remote_object import RemoteObject
from rope_deploy.childprocess.wire_messages import Task

__all__ = [
    "UNLIMITED",
    "WITHOUT_LIMITS",
    "ChildDied",
    "ChildFailed",
    "ChildTimedOut",
    "Limits",
    "RemoteObject",
    "Task",
    "call",
    "environment",
    "how_ended",
    "python",
    "run_in_child",
    "run_in_fork",
    "scripts",
    "staying_here",
]
