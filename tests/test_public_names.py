"""What `rope_deploy.api` offers is stated, documented and typed."""

import inspect
from pathlib import Path

import pytest

from rope_deploy import api

ROOT = Path(__file__).parent.parent


def public_names() -> list[str]:
    """Functions and classes that api itself defines and that do not begin with an underscore."""
    return sorted(
        name
        for name, value in vars(api).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == api.__name__
    )


def test_all_lists_what_api_defines() -> None:
    assert sorted(api.__all__) == public_names()


@pytest.mark.parametrize("name", public_names())
def test_public_name_is_documented_and_typed(name: str) -> None:
    value = getattr(api, name)
    assert value.__doc__, f"api.{name} has no docstring"
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_every_public_function_is_on_the_api_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in public_names() if f"`{name}" not in page] == []
