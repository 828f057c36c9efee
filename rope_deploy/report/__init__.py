"""Render a report, with one renderer for each format. A renderer reads a `Report` of `rope_deploy.results` alone.

`render(report, "html")` returns the text of one report; writing it is the caller's business.
"""

from rope_deploy.report.formats import FILE_NAMES, FORMATS, format_of, render

__all__ = ["FILE_NAMES", "FORMATS", "format_of", "render"]
