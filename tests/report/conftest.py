"""The two sample reports, one that passes and one with a planted failure of every kind."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest


def _sample():
    spec = importlib.util.spec_from_file_location("report_sample", Path(__file__).with_name("sample.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def passing():
    return _sample().sample()


@pytest.fixture
def failing():
    return _sample().failing()


@pytest.fixture
def mapped():
    return _sample().mapped()


@pytest.fixture
def diagnosed():
    """A report whose one failure is named RD301, with maps."""
    return _sample().diagnosed()


@pytest.fixture
def empty(passing):
    """A run that only loaded something: no results of any kind."""
    return type(passing)("t", "s", "not a time", "m", {}, 0.0)


NASTY = (
    "<script>alert(1)</script> & \"q\" 'a' | `code` *b* _c_ [x](http://y.example) ![i](z) @someone #12 $m$ "
    "\x00\x1b[31m\x07\ud800\ufffe\u202e]]> {{ 1 }} {% x %} -- \\ line\nbreak"
)


@pytest.fixture
def nasty(failing, diagnosed):
    """The failing report, diagnosed, with hostile characters in every text of every record."""
    return _spoil(replace(failing, diagnoses=diagnosed.diagnoses, maps=diagnosed.maps))


def _spoil(value):
    import dataclasses

    if dataclasses.is_dataclass(value):
        keep = {"verdict", "runtime", "role", "created", "kind"}
        changes = {
            f.name: getattr(value, f.name) if f.name in keep else _spoil(getattr(value, f.name))
            for f in dataclasses.fields(value)
        }
        return type(value)(**changes)
    if isinstance(value, str):
        return f"{value} {NASTY}"
    if isinstance(value, tuple):
        return tuple(map(_spoil, value))
    if isinstance(value, dict):
        return {_spoil(k): _spoil(v) for k, v in value.items()}
    return value
