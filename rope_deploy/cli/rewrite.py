"""`rope-deploy rewrite`: an ONNX file by any exporter in, the same with its rotations in another style out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from rope_deploy.cli.common import accept_option, force_option, json_option, negated_flag, print_json
from rope_deploy.cli.console import echo
from rope_deploy.cli.progress import shown_steps
from rope_deploy.options import Angles, RewriteOptions
from rope_deploy.results import wording
from rope_deploy.styles import STYLES


@click.command()
@click.argument("source", metavar="FILE.onnx", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    metavar="FILE.onnx",
    type=click.Path(path_type=Path),
    help="The new file; its weights go to FILE.onnx.HASH.data beside it.",
)
@click.option("--style", required=True, type=click.Choice(STYLES), help="How to write the rotation.")
@click.option(
    "--config",
    metavar="HF_CONFIG.json",
    type=click.Path(path_type=Path),
    help="The model's configuration: the tables are compared with it, and it says how long they must be.",
)
@click.option(
    "--angles",
    type=click.Choice(get_args(Angles)),
    default=RewriteOptions.angles,
    show_default=True,
    help="Tables with the angles that the file computes, or computed in fp64 from --config.",
)
@click.option("--opset", type=int, metavar="N", help="ONNX opset. Default: the file's, or the first that has it all.")
@click.option(
    "--max-position",
    type=click.IntRange(min=2),
    metavar="N",
    help="Rows of the tables. Default: those of the file's own tables, else what --config says.",
)
@click.option("--allow-unmatched", is_flag=True, help="Write the file although some rotation was not understood.")
@accept_option
@negated_flag("--no-run", "run", help="Write the file without running it beside the original.")
@force_option
@json_option
def rewrite(source: Path, target: Path, style: str, as_json: bool, **options: Any) -> None:
    """Bring the rotary embeddings of an existing ONNX file to one of four styles.

    The file may come from any exporter, with rotations in standard operators, as RotaryEmbedding of ONNX or ONNX
    Runtime, or written by rope-deploy. It must take position_ids and have named batch and sequence axes. Before it is
    put in place the new file is run beside the original in ONNX Runtime, and must answer alike.

    \b
    rope-deploy rewrite optimum/model.onnx -o fast.onnx --style onnx --config optimum/config.json
    """
    from rope_deploy import api

    with shown_steps() as progress:
        record = api.rewrite(source, target, style, progress=progress, **options)
    if as_json:
        print_json(asdict(record))
        return
    echo(
        f"{record.style:8} {record.folder}: {wording.count(record.sites, 'site')}, "
        f"{wording.count(record.rotations, 'table')}, "
        f"opset {record.opset}, {record.nodes} nodes, {record.bytes / 1e6:.1f} MB"
    )
    if record.ran:
        echo(record.ran)
    for finding in record.findings:
        echo(f"Note: {finding}", err=True)
