"""`rope-deploy plugin`: compile the TensorRT plugin, and show what a compiled one holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rope_deploy.cli.common import force_option, json_option, print_json, split_at_commas
from rope_deploy.cli.console import echo
from rope_deploy.cli.progress import shown_steps

if TYPE_CHECKING:
    from rope_deploy.trt.plugin import Attribute, PluginLibrary

LIBRARY = Path("build/plugin/librope_plugin.so")


@click.group()
def plugin() -> None:
    """Compile the TensorRT plugin, or show what a compiled one holds.

    Neither needs a GPU or TensorRT itself.
    """


@plugin.command()
@click.option(
    "-o",
    "--output",
    "target",
    default=LIBRARY,
    show_default=True,
    metavar="LIB.so",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The library.",
)
@click.option(
    "--arch",
    "architectures",
    multiple=True,
    callback=split_at_commas,
    metavar="X.Y",
    help="Compute capabilities to compile for, e.g. 8.9; repeat it or separate by commas. Default: 7.5, 8.0, 8.6, 8.9, "
    "9.0, 10.0, 12.0, and PTX for later GPUs.",
)
@click.option(
    "--tensorrt-root",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="An unpacked TensorRT package, for its headers. Default: $TENSORRT_ROOT, the system, or a Python package.",
)
@click.option(
    "--build-dir",
    "build_folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Build in DIR and keep it, so that the next build compiles only what changed.",
)
@force_option
@json_option
def build(
    target: Path,
    architectures: tuple[str, ...],
    tensorrt_root: Path | None,
    build_folder: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compile the plugin library.

    It needs nvcc, CMake, a C++ compiler and TensorRT's headers; what is missing is named with the command that
    installs it. One library serves TensorRT 10 and 11.

    \b
    rope-deploy plugin build --arch 8.9 -o librope_plugin.so
    rope-deploy build smollm2/plugin -o smollm2.engine --plugin librope_plugin.so
    """
    from rope_deploy import api

    with shown_steps() as progress:
        library = api.plugin_build(
            target,
            architectures=architectures,
            tensorrt_root=tensorrt_root,
            build_folder=build_folder,
            force=force,
            progress=progress,
        )
    _show(library, as_json)


@plugin.command()
@click.argument("library", metavar="[LIB.so]", default=LIBRARY, type=click.Path(path_type=Path))
@json_option
def info(library: Path, as_json: bool) -> None:
    """Show operators, attributes, versions and targets of a compiled library, and how trtexec uses it.

    The file is read, not loaded. Without an argument it is the one that `rope-deploy plugin build` writes by default.
    """
    from rope_deploy import api

    _show(api.plugin_info(library), as_json)


def _show(library: PluginLibrary, as_json: bool) -> None:
    if as_json:
        print_json(asdict(library))
    else:
        echo(_description(library))


def _description(library: PluginLibrary) -> str:
    machine = [text.removesuffix("-real") for text in library.architectures if not text.endswith("-virtual")]
    virtual = [text.removesuffix("-virtual") for text in library.architectures if text.endswith("-virtual")]
    targets = ", ".join([*(f"sm_{text}" for text in machine), *(f"PTX of compute_{text}" for text in virtual)])
    width = max(len(attribute.name) for attribute in library.attributes)
    return "\n".join(
        [
            f"{library.path}: {library.bytes / 1e6:.1f} MB, rope-deploy {library.version}",
            f"  compiled  by CUDA {library.cuda} and {library.compiler} with the headers of "
            f"TensorRT {library.tensorrt_headers}; for TensorRT 10 and 11",
            f"  targets   {targets}",
            *(
                f"  operator  {operator.name}({', '.join(operator.inputs)}) -> {', '.join(operator.outputs)}"
                for operator in library.operators
            ),
            "  attributes",
            *(
                f"    {attribute.name:{width}}  {_default(attribute):>9}  {attribute.meaning}"
                for attribute in library.attributes
            ),
            "  use it with",
            f"    {library.trtexec}",
            f"    rope-deploy build FOLDER -o model.engine --plugin {library.path}",
        ]
    )


def _default(attribute: Attribute) -> str:
    return "" if attribute.required else f"[{', '.join([f'{attribute.default:g}'] * attribute.length)}]"
