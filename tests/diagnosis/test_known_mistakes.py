"""The list of generators is complete, and what they name has a title."""

import importlib
import inspect
import pkgutil

from rope_deploy import diagnosis
from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.known_mistakes import GENERATORS, known_mistakes
from rope_deploy.results.codes import CODES
from rope_deploy.rope import RopeSpec, Yarn


def test_every_generator_is_listed():
    """A generator of mistakes that nobody listed would never be tried."""
    found = set()
    for module in pkgutil.iter_modules(diagnosis.__path__, "rope_deploy.diagnosis."):
        if module.name.endswith("_mistakes") and not module.name.endswith("known_mistakes"):
            members = inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
            found |= {one for name, one in members if name.endswith("_mistakes") and one.__module__ == module.name}
    assert found == set(GENERATORS)


def test_every_code_has_a_title():
    spec = RopeSpec(64, 32, False, 1e4, Yarn(4.0, 256), 1024)
    codes = {mistake.code for mistake in known_mistakes(Evidence(spec, 1024))}
    assert {"RD101", "RD201", "RD302", "RD501"} <= codes <= set(CODES)
