"""Does every style say what PyTorch says: greedy text token by token, and logits at several lengths.

    python -m benchmarks.agreement

The reference is the model as transformers loads it, with its own attention, not the one this package traces.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from benchmarks import common

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a small village by the sea, there lived",
    "Explain in simple words why the sky is blue during the day and red at sunset.",
    "The three laws of thermodynamics state that",
)
LENGTHS = (1, 2, 17, 128, 512, 1024)


class Reference:
    """transformers' model, and a real text to read."""

    def __init__(self, hf: Path):
        from transformers import AutoTokenizer

        self.model, self.tokenizer = common.stock_model(hf), AutoTokenizer.from_pretrained(hf)
        licence = (Path(__file__).parent.parent / "LICENSE").read_text()
        self.text = np.array([self.tokenizer(licence)["input_ids"]])

    def logits(self, length: int) -> np.ndarray:
        import torch

        with torch.no_grad():
            return self.model(torch.from_numpy(self.text[:, :length])).logits.numpy()

    def greedy(self, prompt: list[int], new: int) -> tuple[list[int], float]:
        """`new` tokens with a cache, and the smallest lead a chosen token had over the second best."""
        import torch

        pending, past, said, lead = torch.tensor([prompt]), None, [], float("inf")
        with torch.no_grad():
            for _ in range(new):
                output = self.model(pending, past_key_values=past, use_cache=True)
                best = output.logits[0, -1].topk(2)
                said.append(int(best.indices[0]))
                lead = min(lead, float(best.values[0] - best.values[1]))
                pending, past = best.indices[None, :1], output.past_key_values
        return said, lead


def compare(folder: Path, reference: Reference, wanted: dict[str, tuple[list[int], float]], new: int) -> dict:
    """One style: how many prompts agree to the last token, and the largest logit error at each length."""
    from rope_deploy.artifact import load_manifest
    from rope_deploy.runtimes import empty_past, greedy, open_ort

    manifest = load_manifest(folder)
    with open_ort(folder) as runtime:
        same = {}
        for prompt, (tokens, _) in wanted.items():
            ours = greedy(runtime, manifest, reference.tokenizer(prompt)["input_ids"], new)
            same[prompt] = next((i for i, (a, b) in enumerate(zip(ours, tokens)) if a != b), new)
        errors = {}
        for length in LENGTHS:
            feeds = {"input_ids": reference.text[:, :length], "attention_mask": np.ones((1, length), np.int64)}
            feeds["position_ids"] = np.arange(length)[None]
            ours = runtime.run(feeds | empty_past(manifest, 1))["logits"]
            errors[str(length)] = float(np.abs(ours - reference.logits(length)).max())
    return {"same_tokens": same, "max_logits_error": errors}


@click.command(help=__doc__.split("\n")[0])
@click.option("--work", type=click.Path(path_type=Path), default=common.WORK, help="Where models and graphs are kept.")
@click.option("--results", type=click.Path(path_type=Path), default=common.RESULTS)
@click.option("--new", default=64, help="Tokens to generate after each prompt.")
def main(work: Path, results: Path, new: int) -> None:
    common.offline()
    hf = common.model_folder(work)
    with common.recording("agreement", results) as result:
        folders = common.export_ours(hf, work)
        reference = Reference(hf)
        wanted = {prompt: reference.greedy(reference.tokenizer(prompt)["input_ids"], new) for prompt in PROMPTS}
        result |= {"model": common.MODEL, "dtype": "float32", "new_tokens": new, "runtime": "ONNX Runtime, CPU"}
        result["prompts"] = {
            prompt: {"text": reference.tokenizer.decode(tokens), "smallest_lead": round(lead, 5)}
            for prompt, (tokens, lead) in wanted.items()
        }
        result["styles"] = {}
        for style in common.STYLES:
            result["styles"][style] = row = compare(folders[style], reference, wanted, new)
            agree, worst = sum(n == new for n in row["same_tokens"].values()), max(row["max_logits_error"].values())
            click.echo(f"{style:8} {agree} of {len(PROMPTS)} texts identical, largest logits error {worst:.2g}")


if __name__ == "__main__":
    main()
