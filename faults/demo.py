"""Break the export of SmolLM2 in twelve ways and see each one named.

python -m faults.demo [ARTIFACT]
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from faults.judged import judged
from faults.mistakes import FAULTS
from faults.workshop import mutated
from rope_deploy.artifact import MANIFEST_NAME, load_manifest
from rope_deploy.config import load_config, model_source
from rope_deploy.models import LoadedModel, load_model
from rope_deploy.parity import PROSE, Outcome, check
from rope_deploy.runtimes import Memoized, open_ort, open_torch

CONFIG = Path("export_configs/smollm2.toml")
MADE_BY_DEMO = Path("out/smollm2")
WORK = Path("out/faults")
# Prompts that count and prompts far out; several rows; decoding. Enough to tell these mistakes apart.
CASES = ("prefill-batch", "offset-by-row", "shuffled", "decode-batch", "decode-shuffled")


@dataclass(frozen=True)
class Break:
    """A fault, in words, and the layers it goes into (None: all)."""

    text: str
    fault: str
    layers: tuple[int, ...] | None = None


BREAKS = (
    Break("pairs of neighbours instead of halves", "layout-swapped"),
    Break("the sine's sign, in layer 17 alone", "sine-negated", (17,)),
    Break("k is not rotated", "only-q"),
    Break("the table starts at position 1", "off-by-plus-1"),
    Break("positions start again behind the cache", "restarted"),
    Break("all rows use the first row's positions", "first-row"),
    Break("the table has half its rows", "clamped-half"),
    Break("rope_theta times 50", "theta-large"),
    Break("angles computed in bfloat16", "angles-bfloat16"),
    Break("the table rounded to float16", "table-float16"),
    Break("cos and sin exchanged", "exchanged"),
    Break("the last quarter of the pairs stands still", "end-still"),
)


@click.command(help=__doc__.split("\n")[0])
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
def main(artifact: Path | None) -> None:
    console, began = Console(), time.perf_counter()
    loaded = _model()
    artifact = artifact or _artifact(loaded)
    reference, text = Memoized(open_torch(loaded)), loaded.tokenizer(PROSE)["input_ids"]

    def run(folder: Path) -> Outcome:
        with open_ort(folder, taps=True, verify=False) as candidate:
            return check(load_manifest(folder), reference, candidate, only=CASES, text=text)

    console.print(f"Breaking {artifact} in {len(BREAKS)} ways; the check runs {', '.join(CASES)}.")
    if (sound := run(artifact)).failed or sound.diagnoses:
        raise click.ClickException(f"{artifact} is wrong before anything was planted.")
    console.print("Untouched, it passes.")
    table = Table("planted", "named", "where", "explanation", box=SIMPLE)
    right = 0
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix=".faults-") as work:
        for number, one in enumerate(BREAKS, 1):
            console.print(f"{number}/{len(BREAKS)} {one.text}", style="dim")
            fault = next(fault for fault in FAULTS if fault.id == one.fault)
            with mutated(artifact, Path(work) / fault.id, fault, one.layers, natural=False) as mutant:
                outcome = run(mutant.folder)
            named = judged(outcome, fault, mutant.layers).named
            right += named
            found = outcome.diagnoses
            table.add_row(
                one.text,
                "\n".join(record.code for record in found) or "nothing",
                "\n".join(record.where for record in found),
                "\n".join(record.explanation for record in found),
                style="" if named else "red",
            )
    console.print(table)
    console.print(f"{right} of {len(BREAKS)} named rightly, in {time.perf_counter() - began:.0f} s.")
    sys.exit(0 if right == len(BREAKS) else 1)


def _model() -> LoadedModel:
    """SmolLM2 from the package that carries its weights, as `make demo` takes it: found, not imported."""
    return load_model(model_source(load_config(CONFIG).model))


def _artifact(loaded: LoadedModel) -> Path:
    """What `make demo` has left, or one style exported now."""
    if (made := MADE_BY_DEMO / "tables" / MANIFEST_NAME).is_file():
        return made.parent
    from rope_deploy.export import prepare, write

    if not (WORK / "tables" / MANIFEST_NAME).is_file():
        click.echo("Exporting SmolLM2 in style tables")
        write(prepare(loaded), WORK / "tables", "tables")
    return WORK / "tables"


if __name__ == "__main__":
    main()
