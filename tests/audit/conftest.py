"""Audits of files that tests write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rope_deploy import api
from rope_deploy.results.records import Report
from tests.audit.files import Decoder, write

Audited = Callable[..., Report]


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    """Write a decoder beside a config.json (if one is stated) and audit it."""

    def audit(decoder: Decoder, stated: dict[str, Any] | None = None, **options: Any) -> Report:
        return api.audit(write(tmp_path / "model" / "model.onnx", decoder, stated), **options)

    return audit


def codes(report: Report) -> set[str]:
    return {one.code for one in report.diagnoses}
