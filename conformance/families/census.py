"""Which families there are: read from the transformers that is installed, never from a list kept here.

A family is a configuration class together with the model class that best stands for it: a language model with its
head before a bare one. It is in the census if the code it reaches mentions rotation; whether it really rotates is
for `count` to say.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from conformance.families.source import ModelClass, model_classes

Category = Literal["decoder", "masked-lm", "encoder-decoder", "text", "vision", "audio", "multimodal"]
TEXT: tuple[Category, ...] = ("decoder", "masked-lm", "encoder-decoder", "text")

# Tables of transformers' auto classes that settle a category, best first, and the category they stand for.
TABLES: Mapping[str, Category | None] = {
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "decoder",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": "multimodal",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES": "audio",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "encoder-decoder",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": "masked-lm",
    "MODEL_FOR_CTC_MAPPING_NAMES": "audio",
    "MODEL_MAPPING_NAMES": None,
    "MODEL_FOR_BACKBONE_MAPPING_NAMES": "vision",
}
# What a tower is fed tells what it is.
FED: Mapping[str, Category] = {
    "pixel_values": "vision",
    "pixel_values_videos": "vision",
    "grid_thw": "vision",
    "pixel_embeds": "vision",
    "input_features": "audio",
    "input_values": "audio",
    "audio_values": "audio",
}


@dataclass(frozen=True, order=True)
class Family:
    """`name` is the model type of its configuration; `module` where `model` is defined."""

    name: str
    category: Category
    config: str
    model: str
    module: str

    def config_class(self) -> type:
        return config_class(self.module, self.config)

    def model_class(self) -> type:
        return getattr(importlib.import_module(self.module), self.model)


def config_class(module: str, name: str) -> type:
    """The configuration class `name`, from transformers or from the package of the modeling file."""
    import transformers

    if (found := getattr(transformers, name, None)) is not None:
        return found
    package, _, last = module.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{last.replace('modeling', 'configuration')}"), name)


@cache
def families() -> tuple[Family, ...]:
    """Every family of the installed transformers whose code mentions rotation, by name."""
    return tuple(sorted(_by_name(_packages()).values()))


def select(names: Iterable[str] = (), categories: Iterable[str] = ()) -> tuple[Family, ...]:
    """The families with these names, or of these categories; all without either.

    Raises KeyError for a name there is not.
    """
    if names := tuple(names):
        # Parsing all of transformers takes half a minute: first the packages that state these names.
        known = _by_name(_stating(names))
        if not known.keys() >= set(names):
            known = _by_name(_packages())
        if strange := sorted(set(names) - known.keys()):
            raise KeyError(f"transformers has no rotating family {', '.join(strange)}.")
        return tuple(known[name] for name in names)
    categories = tuple(categories)
    return tuple(family for family in families() if not categories or family.category in categories)


@cache
def _packages() -> tuple[Path, ...]:
    import transformers

    return tuple(sorted({path.parent for path in Path(transformers.__file__).parent.glob("models/*/modeling_*.py")}))


def _by_name(packages: Iterable[Path]) -> dict[str, Family]:
    """The families of these packages; of several with one name, the first."""
    found: dict[str, Family] = {}
    for package in packages:
        for family in _families_of(package):
            found.setdefault(family.name, family)
    return found


def _stating(names: Iterable[str]) -> list[Path]:
    """The packages with a configuration whose model type is one of `names`."""
    stated = re.compile(
        rf"""^    model_type(?:: *str)? *= *["'](?:{"|".join(map(re.escape, names))})["']""", re.MULTILINE
    )
    return [
        package
        for package in _packages()
        if any(stated.search(path.read_text("utf-8")) for path in package.glob("configuration_*.py"))
    ]


@cache
def _families_of(package: Path) -> tuple[Family, ...]:
    """The families whose models are in one package of transformers, such as models/llama."""
    tables = _tables()
    groups: dict[tuple[str, str], list[ModelClass]] = defaultdict(list)
    for path in sorted(package.glob("modeling_*.py")):
        if not path.stem.startswith(("modeling_tf_", "modeling_flax_")):
            for one in model_classes(path, f"transformers.models.{package.name}.{path.stem}"):
                groups[one.module, one.config].append(one)
    found: dict[str, Family] = {}
    for (module, config), classes in groups.items():
        if not config or not any(one.rotates for one in classes):
            continue
        chosen = min(classes, key=lambda one: _rank(one, tables))
        if chosen.rotates:
            family = _family(chosen, module, config, tables)
            found.setdefault(family.name, family)
    return tuple(_without_inner_decoders(found.values()))


@cache
def _tables() -> dict[str, dict[str, int]]:
    """Of every model class the auto tables it stands in, with its place there (0: the first choice of its type)."""
    from transformers.models.auto import modeling_auto

    standing: dict[str, dict[str, int]] = defaultdict(dict)
    for table in TABLES:
        for named in getattr(modeling_auto, table, {}).values():
            for number, name in enumerate((named,) if isinstance(named, str) else named):
                standing[name].setdefault(table, number)
    return standing


def _rank(one: ModelClass, tables: Mapping[str, Mapping[str, int]]) -> tuple:
    """Small for the class that best stands for its configuration."""
    order = list(TABLES)
    best = min(((order.index(table), number) for table, number in tables[one.name].items()), default=(len(order), 0))
    return (*best, -one.parts, one.name)


def _family(chosen: ModelClass, module: str, config: str, tables: Mapping[str, Mapping[str, int]]) -> Family:
    """The family of a configuration class. One that cannot be imported gives the family its own name, so that it is not
    lost: building it fails in the same way, and its record says why."""
    try:
        settings = config_class(module, config)
    except (AttributeError, ImportError):
        settings = None
    parts = getattr(settings, "sub_configs", None) or {}
    fed = next((FED[name] for name in chosen.inputs if name in FED), None)
    stated = next((TABLES[table] for table in TABLES if table in tables[chosen.name] and TABLES[table]), None)
    writes = stated in ("decoder", "multimodal", "encoder-decoder")
    if writes and (fed or stated == "multimodal") and parts:
        category: Category = "multimodal"
    else:
        category = stated if stated and not (stated == "decoder" and fed) else fed or _guess(config)
    name = getattr(settings, "model_type", "") or config
    return Family(name, category, config, chosen.name, module)


def _guess(config: str) -> Category:
    """Towers whose inputs have names of their own."""
    lower = config.lower()
    for part, category in (("vision", "vision"), ("image", "vision"), ("video", "vision"), ("audio", "audio")):
        if part in lower:
            return category  # type: ignore[return-value]
    return "text"


def _without_inner_decoders(found: Iterable[Family]) -> list[Family]:
    """A bare text model that only serves inside a multimodal one of the same file is that one's decoder."""
    found = list(found)
    speaking = {family.module for family in found if family.category == "multimodal"}
    return [family for family in found if not (family.category == "text" and family.module in speaking)]
