"""Versions of packages, as reports and manifests state them."""

from importlib.metadata import version

from rope_deploy.package_versions import package_versions
from rope_deploy.runs.report_frame import RECORDED
from rope_deploy.runtime_registry import RUNTIMES

NAMES = ("onnx", "no-such-package", "numpy")


def test_a_package_that_is_not_installed_is_left_out() -> None:
    assert list(package_versions(NAMES).items()) == [("onnx", version("onnx")), ("numpy", version("numpy"))]


def test_it_has_the_version_that_stands_for_an_absent_one() -> None:
    assert list(package_versions(NAMES, absent="?")) == list(NAMES)
    assert package_versions(NAMES, absent="?")["no-such-package"] == "?"


def test_reports_state_the_packages_of_every_runtime() -> None:
    assert {name for kind in RUNTIMES.values() for name in kind.packages} <= set(RECORDED)
    assert len(set(RECORDED)) == len(RECORDED)
