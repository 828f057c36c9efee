"""What a child process is asked to do in tests: to die, to take too much, to be stopped."""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from rope_deploy.errors import ConfigError


def dies(by, progress=None):
    if progress:
        progress("Reading the second file")
    print("so this is how it ends", file=sys.stderr, flush=True)
    os.kill(os.getpid(), by)


def aborts(*arguments, **keywords):
    os.abort()


def spins():
    while True:
        pass


def sleeps_in_native_code():
    ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock held: no handler of Python's runs meanwhile


def unpicklable():
    return lambda: 1


def writes_over_answers(progress):
    progress("Reading the second file")
    for number in range(3, 20):  # one of them leads to the parent
        with suppress(OSError):
            os.write(number, b"\xff" * 64)
    time.sleep(60)


def grows():
    import numpy

    return numpy.empty(1 << 34, numpy.uint8).nbytes  # asked for, never touched


def answers(one, *, other, progress=None):
    print("libraries print where they like")
    if progress:
        progress("first")
        progress("second")
    return one, other


def refuses():
    raise ConfigError("No.", ("one", "two"), exists="That.", todo="This.")


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def leaves(*arguments):
    print("last words", file=sys.stderr, flush=True)
    os._exit(7)


def sleeps(*arguments):
    time.sleep(60)


def raises(kind):
    raise Odd(1, 2) if kind == "odd" else ValueError("a fault of ours")


def writes(path):
    """Remove what was begun when stopped, as every writer does."""
    file = Path(path)
    try:
        file.write_text("half")
        time.sleep(60)
    finally:
        file.unlink()


def imports():
    import numpy

    return numpy.__file__, sys.path, signal.getsignal(signal.SIGINT) == signal.SIG_IGN
