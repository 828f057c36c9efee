"""Tiny families traced and raised once a session, for every test that only writes or judges them."""

from __future__ import annotations

from functools import cache

from rope_deploy.exporter import prepare
from rope_deploy.exporter.prepare import Prepared
from tests import tiny


@cache
def prepared(family: str, **settings) -> Prepared:
    return prepare(tiny.loaded(family), **settings)
