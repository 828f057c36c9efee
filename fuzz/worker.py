"""Runs command lines in forked processes with limits: `python -m fuzz.worker SEEDS SCRATCH` answers jobs on stdin.

Importing torch for every case would take most of a campaign's time, so this process imports everything once and forks.
Before the first case of a command it runs that command here on sound files: forks then find every import made and
every cache filled. For the same reason what the product does in a child of its own is first done in the fork itself,
or in a fork of it; an outcome at fault is then looked at again as the product does it, and that counts.

A job is one line of JSON: {"seed", "number", "only"} draws a case, {"recipe"} takes one. The answer is a line:
{"case", "faults", "code", "seconds", "memory", "text"}.

Accesses outside the box: beside it lies a canary's folder that edits name, and inotify says who opened what in it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import chdir, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz.case import Case, draw, from_recipe, rebuild
from fuzz.children import cheap_children
from fuzz.judge import LONGEST, Outcome, faults, leftovers
from fuzz.killing import dying_before, watch
from fuzz.outputs import Mixed, outputs, visible
from rope_deploy.artifact.file_names import MANIFEST_NAME
from rope_deploy.cli.main import COMMANDS
from rope_deploy.errors import RopeDeployError

ADDRESS_SPACE = 16 << 30  # bytes; resident memory is judged, this keeps the machine alive
PATIENCE = LONGEST + 30
OPENED = 0x0000_0020 | 0x0000_0001 | 0x0000_0002  # IN_OPEN, IN_ACCESS, IN_MODIFY
TEXT = 20_000
WAYS = ("--audit", "--no-run")  # options that make another command of one
_warmed: set[tuple[str, ...]] = set()
IMPORTED = (
    "rich.console",
    "transformers.models.llama.modeling_llama",
    "rope_deploy.api",
    "rope_deploy.audit",
    "rope_deploy.report.terminal",
    "rope_deploy.runs.audit",
    "rope_deploy.runs.bench",
    "rope_deploy.runs.check",
    "rope_deploy.runs.ci",
    "rope_deploy.runs.export",
    "rope_deploy.runs.inspect",
    "rope_deploy.runs.rewrite",
    *(entry.target.split(":")[0] for entry in COMMANDS.values()),
)


class Canary:
    """Files that no command has any business with, watched."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "secret.txt").write_text("secret")
        (folder / "evilmod.py").write_text(
            "open(__file__.replace('evilmod.py', 'PWNED'), 'w')\n\ndef make():\n    pass\n"
        )
        libc = ctypes.CDLL(None, use_errno=True)
        self._watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        libc.inotify_add_watch(self._watch, os.fsencode(folder), OPENED)

    def opened(self) -> tuple[str, ...]:
        """The names of files that were opened since the last call."""
        names = set()
        try:
            events = os.read(self._watch, 1 << 16)
        except BlockingIOError:
            return ()
        at = 0
        while at < len(events):
            _, mask, _, length = struct.unpack_from("iIII", events, at)
            name = events[at + 16 : at + 16 + length].rstrip(b"\0").decode()
            if name and not mask & 0x4000_0000:  # IN_ISDIR: listing a folder is no access
                names.add(name)
            at += 16 + length
        return tuple(sorted(names))


def run(
    argv: list[str],
    box: Path,
    canary: Canary,
    log: Path,
    *,
    children: bool = True,
    before: Callable[[], None] = lambda: None,
) -> Outcome:
    """One command line in a forked process whose working directory is `box`; without `children`, in that alone.

    `before` is called in that process.
    """
    inputs, there, began = _inputs(box), {*leftovers(box, 2)}, time.monotonic()
    canary.opened()
    child = os.fork()
    if child == 0:
        _be_the_command(argv, box, log, children, before)
    timed_out = not _ends(child, PATIENCE)
    if timed_out:
        os.killpg(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    text = log.read_bytes()[-TEXT:].decode(errors="replace")
    return Outcome(
        code,
        text,
        seconds,
        usage.ru_maxrss * 1024,
        timed_out,
        canary.opened(),
        _changed(inputs, _inputs(box)),
        tuple(name for name in leftovers(box, code) if name not in there),
    )


def _ends(child: int, seconds: float) -> bool:
    handle = os.pidfd_open(child)
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def _be_the_command(argv: list[str], box: Path, log: Path, children: bool, before: Callable[[], None]) -> None:
    code = 99
    try:
        os.setsid()
        os.chdir(box)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["ROPE_DEPLOY_TRACEBACK"] = "1"
        from rope_deploy.cli.main import main

        with nullcontext() if children else cheap_children():
            before()
            code = main(argv)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # of the fuzzer's own: `main` raises nothing
        traceback.print_exc()
    finally:
        os._exit(code)


def _inputs(box: Path) -> dict[str, tuple[int, int, int]]:
    """Every file of the inputs with its size, time and kind."""
    found = {}
    for path in (box / "input").rglob("*"):
        about = path.lstat()
        if not path.is_dir() or path.is_symlink():
            found[str(path.relative_to(box))] = (about.st_size, about.st_mtime_ns, about.st_mode)
    return found


def _changed(before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]) -> tuple[str, ...]:
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def answer(job: dict[str, Any], seeds: Path, scratch: Path, canary: Canary) -> dict[str, Any]:
    """Carry out one job in a fresh box."""
    box = scratch / "box"
    shutil.rmtree(box, ignore_errors=True)
    box.mkdir(parents=True)
    if "recipe" in job:
        case = from_recipe(job["recipe"])
        rebuild(case, seeds, box, canary.folder)
    else:
        case = draw(job["seed"], job["number"], seeds, box, canary.folder, tuple(job["only"]))
    warm(case, seeds, scratch / "warm")

    def fresh() -> None:
        shutil.rmtree(box)
        box.mkdir()
        rebuild(case, seeds, box, canary.folder)

    if case.kills:
        found, outcome = killed(case, box, scratch / "log", canary, fresh)
    else:
        outcome = run(case.argv, box, canary, scratch / "log", children=False)
        if faults(outcome, fails=case.fails):
            fresh()
            outcome = run(case.argv, box, canary, scratch / "log")
        found = faults(outcome, fails=case.fails)
    if any(kind == "file.link" and asked_for(name, case, box) for name, kind, *_ in case.edits):
        found = [one for one in found if not one.startswith("outside")]
    return {
        "case": case.to_recipe(),
        "faults": found,
        "code": outcome.code,
        "seconds": round(outcome.seconds, 3),
        "memory": outcome.memory,
        "text": outcome.text if found else "",
    }


def asked_for(name: str, case: Case, box: Path) -> bool:
    """Whether a link leads where the command was told to look.

    Whoever names a link asks for what it leads to, and so does who names a model folder: weights are often links to
    another disk. An artifact comes from anybody, and its links lead nowhere else.
    """
    folder = Path(name).parent
    is_model = (box / folder / "config.json").is_file() and not (box / folder / MANIFEST_NAME).exists()
    return name in case.argv or (is_model and str(folder) in case.argv)


def killed(case: Case, box: Path, log: Path, canary: Canary, fresh: Callable[[], None]) -> tuple[list[str], Outcome]:
    """Run a writer undisturbed, then kill it before some of its changes, look, and run it again: faults, an outcome."""
    written, steps = box / "out", log.with_name("changes")
    force = case.argv if "--force" in case.argv or case.argv[0] == "check" else [*case.argv, "--force"]

    def attempt(argv: list[str], tell: Callable[[str], object] | None = None) -> Outcome:
        return run(argv, box, canary, log, children=False, before=lambda: tell and watch(tell))

    old = outputs(written)
    with steps.open("w") as stream:
        outcome = attempt(case.argv, lambda line: os.write(stream.fileno(), f"{line}\n".encode(errors="replace")))
    if found := faults(outcome) or ([f"exit code {outcome.code}"] if outcome.code else []):
        return found, outcome
    lines = steps.read_text(errors="replace").splitlines()
    new, names = outputs(written), visible(written)
    for share in case.kills:
        number = int(share * len(lines))
        fresh()
        if attempt(case.argv, dying_before(number)).code != -signal.SIGKILL:
            continue  # a change fewer, as when a name of its own was free this time
        about = f"killed before {lines[number].split(' ')[0]}"
        try:
            seen = outputs(written)
        except (Mixed, RopeDeployError) as error:
            return [f"{about}: mixed, {error}"], outcome
        found = [f"{about}: {name}" for name in {*old, *new, *seen}
                 if seen.get(name) not in (old.get(name), new.get(name))]  # fmt: skip
        in_place = seen != old and case.argv[1] in case.argv[2:]  # the next run would take its own output for its input
        if not found and not in_place:
            outcome = attempt(force)
            found = faults(outcome) or ([f"{about}: then exit code {outcome.code}"] if outcome.code else [])
            found += [f"{about}: then other outputs"] if outputs(written) != new else []
            found += [f"{about}: then {name}" for name in {*names} ^ {*visible(written)}]
        if found:
            return found, outcome
    return [], outcome


def warm(case: Case, seeds: Path, box: Path) -> None:
    """Run the command of a case on sound files in this process, unless one like it was."""
    kind = (case.argv[0], *(argument for argument in case.argv if argument in WAYS))
    if kind in _warmed:
        return
    _warmed.add(kind)
    shutil.rmtree(box, ignore_errors=True)
    rebuild(replace(case, edits=[]), seeds, box, box)
    from rope_deploy.cli.main import main

    with chdir(box), cheap_children():
        main(case.argv)
    gc.collect()
    gc.freeze()  # or the next collection of a fork copies every page


def prepare() -> None:
    """Import what commands import, before the first fork."""
    import onnxruntime
    import torch

    for name in IMPORTED:
        importlib.import_module(name)
    torch.set_num_threads(1)
    onnxruntime.set_default_logger_severity(4)


def main() -> int:
    seeds, scratch = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    jobs, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare()
    canary = Canary(scratch / "canary")
    for line in jobs:
        try:
            result = answer(json.loads(line), seeds, scratch, canary)
        except Exception as error:  # a fault of the fuzzer itself must not end the campaign
            result = {"case": None, "faults": [f"fuzzer: {type(error).__name__}: {error}"], "code": -1,
                      "seconds": 0.0, "memory": 0, "text": ""}  # fmt: skip
        print(json.dumps(result), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
