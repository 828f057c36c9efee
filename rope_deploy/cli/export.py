"""`rope-deploy export`: a model in, artifact folders out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from rope_deploy.cli.common import accept_option, force_option, json_option, negated_flag, print_json
from rope_deploy.cli.console import echo
from rope_deploy.cli.progress import shown_steps
from rope_deploy.options import Angles, Dtype, ExportOptions
from rope_deploy.results import wording
from rope_deploy.styles import STYLES

ALL = "all"


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "-o", "--output", "folder", required=True, metavar="DIR", type=click.Path(path_type=Path), help="The artifact."
)
@click.option(
    "--style",
    "styles",
    multiple=True,
    type=click.Choice((*STYLES, ALL)),
    help="How to write the rotation. Default: tables. Repeat it for several, or ask for all: each gets a folder of "
    "its name in DIR.",
)
@click.option(
    "--dtype",
    type=click.Choice(get_args(Dtype)),
    default=ExportOptions.dtype,
    show_default=True,
    help="Type of the weights and of the computation.",
)
@click.option("--opset", type=int, metavar="N", help="ONNX opset, 17 or later. Default: the oldest that does, from 18.")
@click.option(
    "--max-position", type=click.IntRange(min=2), metavar="N", help="Rows of the tables. Default: the model's maximum."
)
@click.option(
    "--angles",
    type=click.Choice(get_args(Angles)),
    default=ExportOptions.angles,
    show_default=True,
    help="Tables with the model's own fp32 arithmetic, or computed in fp64 from its configuration.",
)
@click.option(
    "--example",
    metavar="FILE.npz",
    type=click.Path(path_type=Path),
    help="For a tower: an array for each argument of its forward. Default: made from its configuration.",
)
@negated_flag("--no-cache", "cache", help="Export a decoder without its KV cache.")
@negated_flag("--no-fused-attention", "fused_attention", help="Keep style contrib from using GroupQueryAttention.")
@click.option("--allow-unmatched", is_flag=True, help="Export although some rotation was not understood.")
@accept_option
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@force_option
@json_option
def export(model: str, folder: Path, styles: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Export a model to ONNX with its rotary embeddings tabulated and written in one of four styles.

    MODEL is a Hugging Face folder with safetensors, a .gguf file, a hub name (owner/name), or
    package.module:factory, a function that returns an nn.Module.

    \b
    rope-deploy export path/to/model -o out/model --style onnx
    rope-deploy export path/to/model.gguf -o out/model --style tables --style contrib
    rope-deploy export path/to/vision/tower -o out/tower --example image.npz
    """
    from rope_deploy import api

    with shown_steps() as progress:
        chosen = tuple(STYLES) if ALL in styles else styles or ExportOptions.styles
        records = api.export(model, folder, styles=chosen, progress=progress, **options)
    if as_json:
        print_json([asdict(record) for record in records])
        return
    for record in records:
        echo(
            f"{record.style:8} {record.folder}: {wording.count(record.sites, 'site')}, "
            f"{wording.count(record.rotations, 'table')}, "
            f"opset {record.opset}, {record.nodes} nodes, {record.bytes / 1e6:.1f} MB"
        )
    for finding in records[0].findings:
        echo(f"Note: {finding}", err=True)
