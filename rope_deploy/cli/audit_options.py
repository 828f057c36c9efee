"""`rope-deploy check --audit`: what a file holds, against its model's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from rope_deploy.results.records import Report


@dataclass(frozen=True)
class AuditOptions:
    """What --audit was given with."""

    against: Path | None
    max_position: int | None
    fail_on: tuple[str, ...]

    def run(self, subject: Path, ignore_hashes: bool, progress: Callable[[str], None]) -> Report:
        from rope_deploy import api

        return api.audit(
            subject,
            against=self.against,
            max_position=self.max_position,
            fail_on=self.fail_on,
            ignore_hashes=ignore_hashes,
            progress=progress,
        )


READ = ("folder", "audited", "against", "max_position", "fail_on", "ignore_hashes", "reports", "as_json")


def _unread(context: click.Context) -> list[str]:
    """The options that were given and that an audit has no use for."""
    given = [
        one for one in context.command.params if context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE
    ]
    return [one.opts[0] for one in given if one.name not in READ]


def audit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --audit and what belongs to it, as one argument `audit`: AuditOptions, None without --audit."""

    @click.option(
        "--audit",
        "audited",
        is_flag=True,
        help="Run nothing: compare what the file holds with the model's config.json.",
    )
    @click.option(
        "--against",
        metavar="CONFIG",
        type=click.Path(path_type=Path),
        help="With --audit: the model's config.json, or its folder. Default: what lies beside the file.",
    )
    @click.option(
        "--max-position",
        metavar="N",
        type=click.IntRange(min=1),
        help="With --audit: how many positions the tables must serve. Default: what the configuration says.",
    )
    @click.option(
        "--fail-on",
        multiple=True,
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
        codes = tuple(code.strip().upper() for text in fail_on for code in text.split(",") if code.strip())
        if not audited and (against is not None or max_position is not None or codes):
            raise click.UsageError("--against, --max-position and --fail-on belong to --audit.")
        if audited and (unread := _unread(click.get_current_context())):
            raise click.UsageError(f"{', '.join(unread)} cannot be given with --audit, which runs nothing.")
        return command(*args, audit=AuditOptions(against, max_position, codes) if audited else None, **kwargs)

    return with_audit
