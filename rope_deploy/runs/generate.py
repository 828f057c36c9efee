"""Let PyTorch and every artifact continue the same prompts, greedily, and compare token by token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from rope_deploy.errors import UsageError
from rope_deploy.models import LoadedModel
from rope_deploy.results.records import GenerationRecord
from rope_deploy.runs.artifacts import Artifact
from rope_deploy.runs.progress import Progress, silent
from rope_deploy.runtime_registry import GENERATED, REFERENCE, RUNTIMES
from rope_deploy.runtimes import Target, greedy, open_in_child, open_torch


def require_tokenizer(loaded: LoadedModel) -> None:
    """Raise UsageError for a model without a tokenizer. It is called early too, before long work."""
    if loaded.tokenizer is None:
        raise UsageError(
            f"{loaded.source} has no tokenizer, so it cannot be given a prompt.",
            todo="Remove [generate] from the configuration, or add the tokenizer's files.",
        )


def generate_all(
    artifacts: Sequence[Artifact],
    loaded: LoadedModel,
    prompts: Sequence[str],
    new_tokens: int,
    *,
    progress: Progress = silent,
) -> tuple[GenerationRecord, ...]:
    """PyTorch's continuation of each prompt, then each artifact's in a runtime with whether it is the same.

    Raises what `require_tokenizer` raises.
    """
    require_tokenizer(loaded)
    encoded = [loaded.tokenizer(prompt)["input_ids"] for prompt in prompts]
    stop = _stop_tokens(loaded)
    progress("Generating with PyTorch")
    with open_torch(loaded) as runtime:
        wanted = [greedy(runtime, artifacts[0].manifest, ids, new_tokens, stop=stop) for ids in encoded]
    records = [
        _record(loaded, REFERENCE, "", prompt, tokens, None) for prompt, tokens in zip(prompts, wanted, strict=True)
    ]
    for artifact, name in product(artifacts, GENERATED):
        progress(f"Generating with {artifact.manifest.style} in {RUNTIMES[name].title}")
        # It may crash on the file.
        with open_in_child(name, Target(folder=artifact.folder.resolve())) as runtime:
            for prompt, ids, want in zip(prompts, encoded, wanted, strict=True):
                tokens = greedy(runtime, artifact.manifest, ids, new_tokens, stop=stop)
                records.append(_record(loaded, name, artifact.manifest.style, prompt, tokens, tokens == want))
    return tuple(records)


def _record(loaded: LoadedModel, runtime: str, style: str, prompt: str, tokens, agrees) -> GenerationRecord:
    text = loaded.tokenizer.decode(list(tokens), skip_special_tokens=True)
    return GenerationRecord(runtime, style, prompt, text, tuple(tokens), agrees)


def _stop_tokens(loaded: LoadedModel) -> set[int]:
    """The tokens that end a text: the model may state one, several or none."""
    stated = getattr(getattr(loaded.model, "generation_config", None), "eos_token_id", None)
    return {stated} if isinstance(stated, int) else set(stated or ())
