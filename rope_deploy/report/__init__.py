"""Results as records, and one renderer a format. A renderer reads a `Report` and nothing else.

`render(report, "html")` returns the text of one report; writing it is the caller's business.
"""

from rope_deploy.report.formats import FILE_NAMES, FORMATS, format_of, render

__all__ = ["FILE_NAMES", "FORMATS", "format_of", "render"]
