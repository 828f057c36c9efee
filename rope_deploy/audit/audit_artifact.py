"""Audit an artifact: by its own manifest, and by the config.json that lies beside its graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rope_deploy.artifact import MODEL_NAME, Manifest, hash_file
from rope_deploy.audit.audit_reading import audit
from rope_deploy.audit.audit_tower import audit_tower
from rope_deploy.audit.collect_findings import Audit, Findings, roles_and_layers
from rope_deploy.audit.compare_table import positions_of
from rope_deploy.audit.expected_rotations import Expected, from_config, from_manifest
from rope_deploy.audit.judge_tables import FOLLOWS
from rope_deploy.audit.table_tolerances import one_rounding
from rope_deploy.errors import ConfigError, ModelError, UsageError
from rope_deploy.graph.analysis.influences import OTHERS
from rope_deploy.graph.reading import Reading, read_rotations
from rope_deploy.rope import RopeSpec, cos_sin
from rope_deploy.rope.read_config import read_config_file
from rope_deploy.safe_reading import CONFIG_NAME

NO_RULE = (
    "{style}: no rule is stated, neither in the manifest nor in a config.json: it was seen that the tables rotate, "
    "not whether by the right angles; --against gives a rule."
)
LARGEST_HASHED = 64 << 20  # weights are judged by their size: an audit does not read them


@dataclass(frozen=True)
class Stated:
    """The rotations that the config.json of an artifact states; a sentence if it states none, None without the file."""

    what: Expected | str | None


def audit_artifact(
    folder: Path,
    manifest: Manifest,
    *,
    against: Expected | None = None,
    verify: bool = True,
    fail_on: Collection[str] = (),
    trusted: bool = False,
    stated: Stated | None = None,
) -> Audit:
    """Every row of every table and every site of the graph in `folder`.

    By its manifest and its config.json, or by `against` alone. `verify` compares the files with the hashes in the
    manifest first (of large ones, the sizes); what differs is one mistake more, and the files are audited as they
    are. `trusted`: tables that differ from the rule are accepted where the manifest says that they are the model's own,
    as when the model itself is compared too. `stated` is what config.json says where the caller has read it: reading it
    takes PyTorch, seconds to import. A tower has tables alone to audit. Raises UsageError for a graph that
    cannot be read or rotates nothing.
    """
    folder = Path(folder)
    first = _files(folder, manifest) if verify else Audit((), (), ())
    if manifest.task == "tower":
        return _joined([first, audit_tower(folder, manifest)])
    readings = require_rotations(read_rotations(folder / MODEL_NAME), folder / MODEL_NAME)
    if against is not None:
        return _joined([first, audit(readings, against, style=manifest.style, fail_on=fail_on)])
    if not trusted:
        manifest = replace(manifest, findings=())
    claims = (_rows_as_stated, _sites_listed, _by_position_alone, _rounded_once)
    first = _joined([first, *(claim(readings, manifest) for claim in claims)])
    by_manifest, by_config = from_manifest(manifest), (stated or stated_by(folder, manifest)).what
    found = [first, audit(readings, by_manifest, style=manifest.style, fail_on=fail_on)]
    if by_manifest is None and (by_config is None or isinstance(by_config, str)):
        found.append(Audit((), (), (NO_RULE.format(style=manifest.style),)))
    if isinstance(by_config, str):
        found.append(Audit((), (), (by_config,)))
    elif by_config is not None:
        found.append(_prefixed(audit(readings, by_config, style=manifest.style, fail_on=fail_on), CONFIG_NAME))
    return _joined(found)


def require_rotations(readings: Sequence[Reading], path: Path) -> Sequence[Reading]:
    """Raise UsageError if nothing in the file looks like a rotation."""
    if not any(reading.sites or reading.unread for reading in readings):
        skipped = " ".join(text for reading in readings for text in reading.skipped)
        raise UsageError(
            f"{path} has no rotary position embedding.",
            exists=skipped or "Nothing in its graph rotates activations by cosines and sines of positions.",
            todo="Give the file with the decoder, or the encoder, of a model that has one.",
        )
    return readings


def _rows_as_stated(readings: Sequence[Reading], manifest: Manifest) -> Audit:
    """No table has more rows than the manifest states: nobody would look at them."""
    findings = Findings(manifest.style)
    stored = {t.name: t.rows for reading in readings for t in reading.tables if t.rows is not None}
    if all(rotation.cos_sin == "table" for rotation in manifest.rotations):
        for name, rows in stored.items():
            if rows > manifest.max_position:
                text = f"{name} serves {rows} positions; the manifest says {manifest.max_position}."
                findings.mistake("RD607", text, name)
    return findings.audit()


def _by_position_alone(readings: Sequence[Reading], manifest: Manifest) -> Audit:
    """Angles depend on the position alone, and where a rule asks for the longest position, on that too."""
    findings = Findings(manifest.style)
    stored = all(rotation.cos_sin == "table" for rotation in manifest.rotations) and manifest.rotations
    usual = frozenset() if stored else {OTHERS}
    for reading in readings:
        for number, table in enumerate(reading.tables):
            sites = reading.sites_of(number)
            about = {"layers": {site.layer for site in sites}, "roles": {site.role for site in sites}}
            for also in sorted(table.follows - usual):
                findings.mistake(
                    "RD609", FOLLOWS.format(also=also), f"{table.name}, {roles_and_layers(sites)}", **about
                )
    return findings.audit()


def _rounded_once(readings: Sequence[Reading], manifest: Manifest) -> Audit:
    """Tables that are stated to be computed in fp64 are rounded once: a check allows them to differ from PyTorch's."""
    findings = Findings(manifest.style)
    rules = {one.cos_cache: RopeSpec.from_dict(one.spec) for one in manifest.rotations if one.spec and one.cos_cache}
    if manifest.angles != "float64":
        return findings.audit()
    for table in {table.name: table for reading in readings for table in reading.tables if table.stored}.values():
        spec = next((rules[name] for name in table.name.split(", ") if name in rules), None)
        if spec is None or spec.depends_on_length or spec.rotary_dim != 2 * table.width:
            continue
        spec = replace(spec, mrope_section=())
        allowed = one_rounding(table, spec)
        for positions in positions_of(table, min(table.rows, manifest.max_position)):
            found = table.at(positions, len(positions))
            expected = cos_sin(spec, positions, angles="float64")
            errors = np.max(
                [np.abs(a.astype(np.float64) - b) for a, b in zip(found, expected, strict=True)], axis=(0, 2)
            )
            if not errors.max() <= allowed:
                worst = int(positions[np.argmax(errors)])
                text = (
                    f"angles: float64; {table.name} is off by {errors.max():.2g} at position {worst}, not one rounding."
                )
                findings.mistake("RD607", text, table.name)
                break
    return findings.audit()


def _sites_listed(readings: Sequence[Reading], manifest: Manifest) -> Audit:
    """A manifest that lists no site has a graph without rotations: an export lists every one."""
    findings = Findings(manifest.style)
    sites = [site for reading in readings for site in reading.sites]
    if sites and not manifest.sites:
        findings.mistake("RD607", f"The graph has {len(sites)} sites; the manifest lists none.", "the whole file")
    return findings.audit()


def stated_by(folder: Path, manifest: Manifest) -> Stated:
    """What the config.json in `folder` states. Raises what reading it raises, but not ModelError (no rotation)."""
    return Stated(_stated(folder, manifest))


def _stated(folder: Path, manifest: Manifest) -> Expected | str | None:
    """The rotations that config.json states, for as many positions as were exported; a sentence if it states none."""
    if not (folder / CONFIG_NAME).is_file():
        return None
    try:
        stated = from_config(read_config_file(folder / CONFIG_NAME), CONFIG_NAME)
    except ModelError as error:
        return f"{CONFIG_NAME} was not compared: {error.asked}"
    except ConfigError as error:
        if not any(finding.accepted for finding in manifest.findings):
            raise
        return f"{CONFIG_NAME} was not compared: {' '.join((error.asked, *error.faults))}"
    specs = {one.name: one.spec for one in manifest.rotations if one.spec}
    accepted = from_manifest(manifest)
    if accepted is not None and accepted.accepted and len(stated.specs) == len(specs) == 1:
        stated = replace(stated, accepted={name: text for name in stated.specs for text in accepted.accepted.values()})
    # rope-deploy's own interleaved layout is that of the model, which the configuration does not state.
    layouts = {bool(spec["interleaved"]) for spec in specs.values()}
    if len(layouts) == 1:
        (interleaved,) = layouts
        stated = replace(stated, specs={n: replace(s, interleaved=interleaved) for n, s in stated.specs.items()})
    return replace(stated, max_position=min(stated.max_position, manifest.max_position))


def _files(folder: Path, manifest: Manifest) -> Audit:
    """Whether the files are those that the manifest lists, by their hashes; of large ones by their sizes."""
    changed = []
    for name, info in manifest.files.items():
        path = folder / name
        same = path.is_file() and path.stat().st_size == info.bytes
        if not same or (info.bytes <= LARGEST_HASHED and hash_file(path) != info):
            changed.append(name)
    findings = Findings(manifest.style)
    if changed:
        text = f"{', '.join(changed)} changed since the export; what follows is about the files as they are."
        findings.mistake("RD606", text, ", ".join(changed))
    return findings.audit()


def _prefixed(found: Audit, name: str) -> Audit:
    return replace(found, checks=tuple(replace(r, case=f"{name}: {r.case}") for r in found.checks))


def _joined(parts: Sequence[Audit]) -> Audit:
    """All records; a mistake that both the manifest and the configuration show is one."""
    diagnoses = {}
    for one in (one for part in parts for one in part.diagnoses):
        diagnoses.setdefault((one.code, one.explanation, one.layers), one)
    return Audit(
        tuple(record for part in parts for record in part.checks),
        tuple(diagnoses.values()),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
