"""`rope-deploy check --explain CODE`: what a diagnosis means, instead of a check."""

from __future__ import annotations

from dataclasses import asdict

import click

from rope_deploy.cli.common import json_in_force, print_json
from rope_deploy.cli.console import echo


def _explain(context: click.Context, parameter: click.Parameter, code: str | None) -> None:
    """Print the page of a code and end the command. The option is eager, so that no DIR is asked for."""
    if code is None or context.resilient_parsing:
        return
    from rope_deploy import api
    from rope_deploy.results.code_pages import index, shown
    from rope_deploy.results.codes import CODES

    if code.strip().lower() == "all":
        print_json(dict(CODES)) if json_in_force() else echo(index().rstrip("\n"))
    else:
        page = api.explain(code)
        print_json(asdict(page)) if json_in_force() else shown(page)
    context.exit()


explain_option = click.option(
    "--explain",
    metavar="CODE",
    is_eager=True,
    expose_value=False,
    callback=_explain,
    help="Say what a diagnosis such as RD105 means and what to do, and check nothing. `all` lists the codes.",
)
