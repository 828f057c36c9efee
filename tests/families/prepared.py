"""Tiny families traced and raised once a session, for every test that only writes or judges them."""

from __future__ import annotations

from functools import cache

from rope_deploy.export import prepare
from rope_deploy.export.prepare_model import Prepared
from rope_deploy.options import ExportOptions
from tests import tiny


@cache
def prepared(family: str, **settings) -> Prepared:
    return prepare(tiny.loaded(family), ExportOptions(**settings))
