"""Every option of a command is reachable from the command line, from Python and from TOML, with one default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

import pytest

from rope_deploy import api
from rope_deploy.cli.main import main
from rope_deploy.config import bench_options, build_options, check_options, decode_config, export_options
from rope_deploy.errors import UsageError
from rope_deploy.options import (
    AuditOptions,
    BenchOptions,
    BuildOptions,
    CheckOptions,
    CiOptions,
    ExportOptions,
    RewriteOptions,
)

# Options type -> the function of api that makes it, and the least command line that calls that function.
MADE_BY = {
    ExportOptions: ("export", ["export", "model", "-o", "folder"]),
    RewriteOptions: ("rewrite", ["rewrite", "a.onnx", "-o", "b.onnx", "--style", "onnx"]),
    CheckOptions: ("check", ["check", "folder"]),
    AuditOptions: ("audit", ["check", "folder", "--audit"]),
    BenchOptions: ("bench", ["bench", "folder"]),
    BuildOptions: ("build", ["build", "folder", "-o", "file.engine"]),
    CiOptions: ("run_ci", ["ci", "config.toml"]),
}
# What only Python users can say, and why.
PYTHON_ONLY = {(CheckOptions, "isolated")}  # a process of its own costs a user nothing but the time of a start
SMALLEST = '[model]\nsource = "hub/name"\n'
EVERYTHING = """
[model]
source = "hub/name"
dtype = "float16"
trust_remote_code = true
[export]
styles = ["onnx"]
opset = 24
max_position = 4096
angles = "float64"
cache = false
fused_attention = false
allow_unmatched = true
accept = ["RD301"]
[build]
style = "onnx"
flavor = "tensorrt"
profiles = {batch = [1, 1, 8]}
[check]
runtimes = ["ort", "trt"]
set = "quick"
seed = 3
allow_limits = ["tokens"]
[bench]
runtimes = ["ort", "trt"]
prompt = 64
new = 0
rounds = 7
threads = 2
profile = true
baseline = "base.json"
other_machine = "skip"
unsettled = "fail"
[gates]
max_slowdown = 1.5
"""
# What one file cannot say beside that: it is for the other flavour, which is a file's default.
CAPABILITIES = SMALLEST + '[build]\ncompute_capabilities = ["8.9"]\n'
# What a file does not say: each run of `ci` is told of `source`, `force` and the model by its own command, writes its
# engine itself, and checks all cases of artifacts that it has just written.
NOT_IN_TOML = {
    ExportOptions: {"example", "force"},
    CheckOptions: {"model", "engine", "cases", "ignore_hashes", "reference", "isolated"},
    BenchOptions: {"model", "engine"},
    BuildOptions: {"plugin", "timing_cache", "taps", "accept", "force"},
}
# Where a file means more than the command of the table's name: it states a whole comparison.
OTHER_DEFAULT = {
    (ExportOptions, "styles"): ("tables", "onnx", "contrib", "plugin"),
    (BenchOptions, "runtimes"): ("torch", "ort"),
    (BuildOptions, "flavor"): "rtx",
    (BuildOptions, "style"): "tables",
}


class Called(Exception):
    """Ends a command once it has called api."""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], dict[str, object]]:
    """`given(options)`: the keywords that the command line hands to api where no option is given."""

    def run(options: type) -> dict[str, object]:
        name, arguments = MADE_BY[options]
        found: dict[str, object] = {}

        def called(*_: object, **keywords: object) -> None:
            found.update(keywords)
            raise Called

        monkeypatch.setattr(api, name, called)
        main(arguments)
        return found

    return run


def default_of(options: type, field: str) -> object:
    return next(one.default for one in fields(options) if one.name == field)


EVERY_FIELD = [(options, one.name) for options in MADE_BY for one in fields(options)]


@pytest.mark.parametrize(("options", "field"), EVERY_FIELD, ids=lambda value: getattr(value, "__name__", value))
def test_every_option_can_be_given_in_python_with_the_default_of_its_type(options: type, field: str) -> None:
    parameter = inspect.signature(getattr(api, MADE_BY[options][0])).parameters[field]
    default = default_of(options, field)
    assert parameter.default == (inspect.Parameter.empty if default is MISSING else default)


@pytest.mark.parametrize("options", MADE_BY, ids=lambda options: options.__name__)
def test_every_option_can_be_given_on_the_command_line_with_the_default_of_its_type(options: type, given) -> None:
    keywords = given(options)
    expected = {one.name: one.default for one in fields(options) if (options, one.name) not in PYTHON_ONLY}
    if options is RewriteOptions:
        assert expected.pop("style") is MISSING  # an argument of its own
    assert {name: value for name, value in keywords.items() if name != "progress"} == expected


def from_toml(text: str) -> list[object]:
    config = decode_config(text)
    made = [export_options(config), check_options(config)]
    made += [bench_options(config)] if config.bench else []
    return made + ([build_options(config)] if config.build else [])


@pytest.mark.parametrize("options", NOT_IN_TOML, ids=lambda options: options.__name__)
def test_every_option_can_be_given_in_toml(options: type) -> None:
    made = [one for text in (EVERYTHING, CAPABILITIES) for one in from_toml(text) if type(one) is options]
    assert made
    unsaid = {
        one.name
        for one in fields(options)
        if all(getattr(each, one.name) == OTHER_DEFAULT.get((options, one.name), one.default) for each in made)
    }
    assert unsaid <= NOT_IN_TOML[options]


@pytest.mark.parametrize("made", from_toml(SMALLEST + "[bench]\n[build]\n"), ids=lambda made: type(made).__name__)
def test_the_defaults_of_toml_are_those_of_the_type_where_none_other_is_stated(made: object) -> None:
    expected = {one.name: OTHER_DEFAULT.get((type(made), one.name), one.default) for one in fields(made)}
    stated = {one.name: getattr(made, one.name) for one in fields(made)}
    if isinstance(made, BenchOptions | CheckOptions):
        expected["engine"] = Path("out/config/tables.rtx.engine")  # the one that [build] makes
    assert stated == expected


def test_the_guard_sees_an_option_that_nothing_can_give(given) -> None:
    @dataclass(frozen=True)
    class Newer(ExportOptions):
        new_field: int = 0

    assert {one.name for one in fields(Newer)} - {*given(ExportOptions)} == {"new_field"}
    assert "new_field" not in inspect.signature(api.export).parameters


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ExportOptions(styles=()), "at least one"),
        (lambda: ExportOptions(styles=("onnx", "onnx")), "once"),
        (lambda: ExportOptions(styles=("fast",)), "Unknown style 'fast'"),
        (lambda: RewriteOptions("onnx", angles="float64"), "computed from a rule"),
        (lambda: CheckOptions(runtimes=("tensorflow",)), "Unknown runtime"),
        (lambda: CheckOptions(runtimes=("torch-compile",)), "Unknown runtime"),
        (lambda: CheckOptions(runtimes=("torch",)), "nothing would be run"),
        (lambda: CheckOptions(runtimes=("trt",)), "needs an engine"),
        (lambda: CheckOptions(model="some/model", reference=False), "needs no model"),
        (lambda: BenchOptions(runtimes=()), "No runtime"),
        (lambda: BenchOptions(prompt=()), "at least one runtime, one prompt token and one round"),
        (lambda: BenchOptions(prompt=(4, 0)), "at least one runtime, one prompt token and one round"),
        (lambda: BenchOptions(new=-1), "at least one runtime, one prompt token and one round"),
        (lambda: BenchOptions(rounds=0), "at least one runtime, one prompt token and one round"),
        (lambda: BenchOptions(prompt=(4, 8, 4)), "A length is asked for twice: 4, 8, 4"),
        (lambda: BenchOptions(max_slowdown=0), "cannot be below 0"),
        (lambda: BenchOptions(threads=1 << 20), "cannot be had"),
        (lambda: replace(BenchOptions(rounds=2), baseline=Path("base.json")), "too few"),
        (lambda: BuildOptions(style="fast"), "Unknown style"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(make, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()
