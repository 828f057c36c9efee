"""One TensorRT-RTX engine of a family, in the style that `build --style auto` chooses, or why there is none."""

from __future__ import annotations

import json
from pathlib import Path

from conformance.families.census import Family
from conformance.families.tiny import tiny_model
from conformance.families.verdicts import first_line
from rope_deploy import api
from rope_deploy.errors import EnvironmentMissing, RopeDeployError

CAPABILITIES = ("8.0", "8.9")


def judge_engine(family: Family, work: Path) -> None:
    """Build from the artifacts in `work`/exported, or from the model where there are none, and leave the result in
    `work`/engine.json: "built" with the style, or "refused" with the reason and whether it is the rotation's."""
    source = work / "exported"
    if not source.is_dir():
        tiny_model(family).save_pretrained(source := work / "model")
    (work / "engine.json").write_text(json.dumps(_build(source, work / "family.engine")))


def _build(source: Path, target: Path) -> dict:
    try:
        built = api.build(source, target, style="auto", flavor="rtx", capabilities=CAPABILITIES, force=True)
    except EnvironmentMissing as error:
        return {"verdict": "needs-package", "reason": error.asked}
    except RopeDeployError as error:
        text, of_rotation = str(error).replace(f"{source.parent}/", ""), getattr(error, "of_rotation", None)
        reason = " ".join(text.split())
        return {"verdict": "refused", "reason": reason[:1000], "of_rotation": of_rotation}
    except Exception as error:  # a refusal has a reason; this is none
        return {"verdict": "crash", "reason": first_line(error)}
    return {
        "verdict": "built",
        "reason": "",
        "style": built.style,
        "capabilities": built.capabilities,
        "bytes": built.bytes,
        "seconds": built.seconds,
    }
