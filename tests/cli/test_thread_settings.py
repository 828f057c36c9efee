"""Threads sleep while they wait, unless the user wants otherwise."""

import os

from rope_deploy.cli.thread_settings import wait_without_spinning


def test_barriers_are_passive_unless_the_user_has_chosen(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
