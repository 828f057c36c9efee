"""What is attacked: which seeds lie in a case's box, which of their files are mutated, which commands read them.

Paths are relative to the box; {style} and {form} are drawn anew for each case. A command's weight is its share of its
surface's cases; what is slow is drawn rarely.
"""

from __future__ import annotations

from dataclasses import dataclass

from faults.wrong_artifacts import OF_TABLES, WRONG
from rope_deploy import styles

STYLES = tuple(styles.STYLES)
FORMS = ("chain", "standard", "contrib", "fused", "computed", "counted")


@dataclass(frozen=True)
class Command:
    """`fails`: the input is wrong whatever the edits did, so that exit code 0 is a fault."""

    weight: int
    argv: tuple[str, ...]
    fails: bool = False


@dataclass(frozen=True)
class Surface:
    """`files`: seed → where it lies in the box. `mutated`: which files get edits, drawn evenly; all are in `files`.

    `wrong`: mistakes of which one is put into the artifact at `tampered`, whose manifest is then tampered with.
    `kills`: how often at most the command, whose files stay as they are, is killed before a change that it makes.
    """

    name: str
    weight: int
    files: tuple[tuple[str, str], ...]
    mutated: tuple[str, ...]
    commands: tuple[Command, ...]
    wrong: tuple[str, ...] = ()
    tampered: str = "input/a"
    kills: int = 0


def _command(weight: int, line: str, *, fails: bool = False) -> Command:
    return Command(weight, tuple(line.split()), fails)


_REWRITE = "rewrite input/g.onnx -o out/out.onnx --style {style} --max-position 32"
_MODEL = ("model", "input/m")
_ARTIFACT = ("artifacts/{style}", "input/a")

SURFACES: tuple[Surface, ...] = (
    Surface(
        "foreign graph",
        30,
        (("{form}.onnx", "input/g.onnx"), ("stated.json", "input/config.json")),
        ("input/g.onnx",),
        (
            _command(3, "inspect input/g.onnx"),
            _command(4, "check --audit input/g.onnx"),
            _command(2, "check --audit input/g.onnx --json"),
            _command(5, f"{_REWRITE} --no-run"),
            _command(1, f"{_REWRITE} --config input/config.json --allow-unmatched"),
        ),
    ),
    Surface(
        "artifact graph",
        30,
        (_ARTIFACT, _MODEL),
        ("input/a/model.onnx",),
        (
            _command(3, "inspect input/a"),
            _command(6, "check --audit input/a --ignore-hashes"),
            _command(4, "rewrite input/a/model.onnx -o out/out.onnx --style {style} --no-run --allow-unmatched"),
            _command(1, "rewrite input/a/model.onnx -o out/out.onnx --style {style} --config input/a/config.json"),
        ),
    ),
    Surface(
        "external data",
        6,
        (_ARTIFACT, _MODEL),
        ("input/a/*.data",),
        (
            _command(3, "inspect input/a"),
            _command(3, "check --audit input/a --ignore-hashes"),
            _command(2, "check --audit input/a"),
            _command(2, "rewrite input/a/model.onnx -o out/out.onnx --style {style} --no-run"),
        ),
    ),
    Surface(
        "manifest",
        14,
        (_ARTIFACT, _MODEL),
        ("input/a/rope_deploy.json", "input/a/rope_deploy.json", "input/a/rope_deploy.json", "input/a/config.json"),
        (
            _command(10, "inspect input/a"),
            _command(5, "check --audit input/a"),
            _command(5, "check --audit input/a --ignore-hashes --json"),
        ),
    ),
    Surface(
        "configuration",
        14,
        (_MODEL, ("chain.onnx", "input/g.onnx")),
        ("input/m/config.json", "input/m/config.json", "input/m/config.json", "input/m/generation_config.json"),
        (
            _command(10, "inspect input/m"),
            _command(8, "check --audit input/g.onnx --against input/m"),
            _command(3, "rewrite input/g.onnx -o out/out.onnx --style {style} --config input/m/config.json --no-run"),
            _command(1, "export input/m -o out/a"),
        ),
    ),
    Surface(
        "weights",
        2,
        (_MODEL,),
        ("input/m/model.safetensors", "input/m/tokenizer.json", "input/m/tokenizer_config.json"),
        (_command(1, "inspect input/m"), _command(3, "export input/m -o out/a --max-position 64")),
    ),
    Surface(
        "GGUF",
        4,
        (("gguf.gguf", "input/m.gguf"),),
        ("input/m.gguf",),
        (_command(6, "inspect input/m.gguf"), _command(1, "export input/m.gguf -o out/a --max-position 64")),
    ),
    Surface(
        "TOML",
        3,
        (("run.toml", "input/run.toml"), _MODEL),
        ("input/run.toml",),
        (_command(1, "ci input/run.toml"),),
    ),
    Surface(
        "example",
        1,
        (("tower", "input/m"), ("tower.npz", "input/example.npz")),
        ("input/example.npz", "input/m/config.json"),
        (_command(1, "export input/m -o out/a --example input/example.npz"),),
    ),
    Surface(
        "baseline",
        2,
        (("artifacts/tables", "input/a"), ("baseline.json", "input/b.json"), _MODEL),
        ("input/b.json",),
        (_command(1, "bench input/a --model input/m --prompt 4 --new 1 --rounds 1 --baseline input/b.json"),),
    ),
    Surface(
        "engine manifest",
        4,
        (("toy.engine", "input/e.engine"), ("toy.engine.json", "input/e.engine.json"), _ARTIFACT, _MODEL),
        ("input/e.engine.json", "input/e.engine.json", "input/e.engine"),
        (_command(9, "inspect input/e.engine"), _command(1, "check input/a --runtime trt --engine input/e.engine")),
    ),
    Surface(
        "check",
        2,
        (_ARTIFACT, _MODEL),
        ("input/a/rope_deploy.json", "input/a/model.onnx", "input/a/config.json"),
        (
            _command(1, "check input/a --quick --ignore-hashes --model input/m"),
            _command(1, "check input/a --quick --no-reference --ignore-hashes"),
        ),
    ),
    Surface(
        "tampered artifact",
        6,
        (_ARTIFACT, _MODEL),
        ("input/a/rope_deploy.json",),
        (
            _command(3, "check input/a --quick --model input/m", fails=True),
            _command(2, "check input/a --quick --ignore-hashes", fails=True),
            _command(1, "check input/a --model input/m", fails=True),
        ),
        wrong=tuple(WRONG),
    ),
    Surface(
        "tampered tables",
        3,
        (_ARTIFACT, _MODEL),
        ("input/a/rope_deploy.json",),
        (
            _command(1, "check --audit input/a --against input/m", fails=True),
            _command(1, "check --audit input/a --against input/m --ignore-hashes", fails=True),
        ),
        wrong=OF_TABLES,
    ),
    Surface(
        "tampered among sound ones",
        2,
        (("artifacts/{style}", "input/s/wrong"), ("artifacts/tables", "input/s/sound"), _MODEL),
        ("input/s/wrong/rope_deploy.json",),
        (
            _command(1, "check input/s --quick --model input/m", fails=True),
            _command(1, "check input/s --quick --ignore-hashes --model input/m", fails=True),
        ),
        wrong=tuple(WRONG),
        tampered="input/s/wrong",
    ),
    Surface(
        "kill",
        3,
        (
            _ARTIFACT,
            _MODEL,
            ("run.toml", "input/run.toml"),
            ("graphs/{style}", "input/g"),
            ("artifacts/{other}", "out/a"),
            ("graphs/{other}", "out/g"),
        ),
        (),
        (
            _command(5, "rewrite input/g/model.onnx -o out/new/new.onnx --style {style} --no-run"),
            _command(5, "rewrite input/g/model.onnx -o out/g/model.onnx --style {style} --no-run --force"),
            _command(3, "rewrite out/g/model.onnx -o out/g/model.onnx --style {style} --no-run --force"),
            _command(4, "check --audit input/a --report out/new/r.json --report out/r.md --report out/r.xml"),
            _command(1, "export input/m -o out/a --style {style} --max-position 64 --force"),
            _command(1, "export input/m -o out/new/a --style {style} --style {other}"),
            _command(1, "ci input/run.toml --force"),
        ),
        kills=3,
    ),
)
