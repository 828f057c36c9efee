"""The options of `rope-deploy check --audit`, which compares a file with its model's configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rope_deploy.cli.common import split_names
from rope_deploy.options import AuditOptions

# Parameters of `check` that an audit reads; every other one is refused beside --audit.
READ = ("folder", "audited", "against", "max_position", "fail_on", "ignore_hashes", "reports", "as_json")


def _unread(context: click.Context) -> list[str]:
    """The options that were given on the command line although an audit does not read them."""
    given = [
        one for one in context.command.params if context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE
    ]
    return [one.opts[0] for one in given if one.name not in READ]


def _split_codes(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.upper() for code in split_names(context, parameter, value))


def audit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --audit and the options of an audit, as one argument `audit`: a dictionary, None without --audit.

    Its keys are fields of `AuditOptions`, without `ignore_hashes`, which the command has by itself.
    """

    @click.option(
        "--audit",
        "audited",
        is_flag=True,
        help="Run nothing: compare what the file holds with the model's config.json.",
    )
    @click.option(
        "--against",
        metavar="CONFIG",
        default=AuditOptions.against,
        type=click.Path(path_type=Path),
        help="With --audit: the model's config.json, or its folder. Default: what lies beside the file.",
    )
    @click.option(
        "--max-position",
        metavar="N",
        default=AuditOptions.max_position,
        type=click.IntRange(min=1),
        help="With --audit: how many positions the tables must serve. Default: what the configuration says.",
    )
    @click.option(
        "--fail-on",
        multiple=True,
        callback=_split_codes,
        metavar="CODES",
        help="With --audit: hazards that count as mistakes, e.g. RD605 (Cos and Sin at run time). Repeatable.",
    )
    @wraps(command)
    def with_audit(
        *args: Any,
        audited: bool,
        against: Path | None,
        max_position: int | None,
        fail_on: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        if not audited and (against is not None or max_position is not None or fail_on):
            raise click.UsageError("--against, --max-position and --fail-on belong to --audit.")
        if audited and (unread := _unread(click.get_current_context())):
            raise click.UsageError(f"{', '.join(unread)} cannot be given with --audit, which runs nothing.")
        audit = {"against": against, "max_position": max_position, "fail_on": fail_on} if audited else None
        return command(*args, audit=audit, **kwargs)

    return with_audit
