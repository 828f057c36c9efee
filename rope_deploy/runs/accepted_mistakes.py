"""Name the mistakes by which rotations differ from their configuration, and stop unless each was accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rope_deploy.artifact import SIZE_DIFFERS, TABLE_DIFFERS, Finding
from rope_deploy.audit.compare_table import compare_table
from rope_deploy.audit.name_table_mistake import name_mistake
from rope_deploy.errors import MistakeFound
from rope_deploy.graph.reading import FoundTable, Unreadable
from rope_deploy.graph.reading.records import Precision
from rope_deploy.results.codes import CODES
from rope_deploy.rope import RopeSpec

if TYPE_CHECKING:
    from rope_deploy.export.audit_tables import Audited
    from rope_deploy.graph.markers import RaisedRotation

# Mistakes of precision: the rule is the stated one, and tables computed in fp64 are free of them.
OF_PRECISION = frozenset({"RD501", "RD502", "RD503", "RD504"})
ROUNDED = "table-rounded"
# Findings that are a mistake by themselves; a difference of tables has to be fitted first.
CODE_OF = {SIZE_DIFFERS: "RD103", "axes-differ": "RD209", "layout-differs": "RD101"}


@dataclass(frozen=True)
class Judge:
    """Decides about differences between rotations and the rules in `specs`, those of a configuration by layer type.

    `accepted`: codes of mistakes that were accepted. `recomputed`: the tables are about to be computed in fp64, so that
    mistakes of precision are gone. `dtype` is that of the weights: a model in a half type may round cos and sin to it,
    which is no mistake of whoever exports it. `layouts`: whether pairs of another layout are a mistake, as in a file; a
    model is right about its own, which configurations do not state.
    """

    specs: Mapping[str, RopeSpec]
    accepted: frozenset[str]
    recomputed: bool = False
    dtype: str = "float32"
    layouts: bool = False

    def __call__(self, audited: Sequence[Audited]) -> list[Audited]:
        """The same with every mistake named in its findings. Raises MistakeFound for those not accepted."""
        judged = [replace(one, findings=tuple(self._named(one))) for one in audited]
        found = [finding for one in judged for finding in one.findings if finding.accepted]
        if wrong := [finding for finding in found if not self._passes(finding)]:
            raise _mistake_found(wrong)
        return [replace(one, findings=tuple(map(self._with_outcome, one.findings))) for one in judged]

    def _passes(self, finding: Finding) -> bool:
        return finding.accepted in self.accepted or finding.code == ROUNDED

    @staticmethod
    def _with_outcome(finding: Finding) -> Finding:
        """A mistake with what was done about it; one that computing the tables again removes needs no acceptance."""
        if finding.code == ROUNDED:
            message = f"{finding.message} The tables are computed in fp64 from the configuration instead."
            return replace(finding, severity="info", message=message, accepted="")
        return replace(finding, message=f"{finding.message} Accepted.") if finding.accepted else finding

    def _named(self, one: Audited) -> Iterator[Finding]:
        rotation = one.rotation
        for finding in one.findings:
            if finding.code == TABLE_DIFFERS:
                yield from self._of_table(one, finding)
            elif finding.code in CODE_OF and (self.layouts or finding.code != "layout-differs"):
                code = CODE_OF[finding.code]
                text = finding.message.removeprefix(f"{rotation.name}: ")
                yield _finding(finding.code, code, rotation, f"{text[:1].upper()}{text[1:]}")
            else:
                yield finding
        shortened = rotation.table.shortened
        if shortened is not None and (one.spec is None or rotation.table.kind == "computed"):
            yield _shortened(rotation)

    def _of_table(self, one: Audited, finding: Finding) -> Iterator[Finding]:
        """The mistake in a table; nothing where rounding explains it, as exporters round in other orders."""
        table = found_table(one.rotation)
        spec = replace(self.specs[one.layer_type], mrope_section=())
        others = {name: other for name, other in self.specs.items() if name != one.layer_type}
        try:
            compared = compare_table(table, spec, table.rows)
            if compared.sound:
                return
            if compare_table(_rounded_to(table, self.dtype), spec, table.rows).sound:
                yield replace(finding, severity="info")
                return
            named = name_mistake(table, spec, others, compared, table.rows)
        except Unreadable as reason:
            yield _finding(TABLE_DIFFERS, "RD900", one.rotation, f"Its table cannot be compared: {reason}.")
            return
        off = f" {compared.what.capitalize()} is off by {compared.error:.2g} at position {compared.position}."
        text = named.explanation + ("" if named.code == "RD900" else off)
        code = ROUNDED if self.recomputed and named.code in OF_PRECISION else TABLE_DIFFERS
        yield _finding(code, named.code, one.rotation, text)


def found_table(rotation: RaisedRotation) -> FoundTable:
    """The table of a rotation in the form in which the tables of files are judged."""
    table, shortened = rotation.table, rotation.table.shortened
    name = table.cos.dtype.name
    lost = {} if shortened is None else {shortened.what: shortened.dtype}

    def at(positions: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        rows = positions + (table.original if table.original and length > table.original else 0)
        return table.cos[rows], table.sin[rows]

    precision = Precision(name, name, lost.get("angles"), lost.get("frequencies", ""))
    return FoundTable(rotation.name, len(table.cos) - table.original, rotation.rotary_dim // 2, "input", precision, at)


def _rounded_to(table: FoundTable, dtype: str) -> FoundTable:
    """`table` judged as one that is rounded to `dtype` on purpose."""
    return replace(table, precision=replace(table.precision, table=dtype, activations=dtype))


def _shortened(rotation: RaisedRotation) -> Finding:
    lost = rotation.table.shortened
    if lost.what == "frequencies":
        return _finding(TABLE_DIFFERS, "RD504", rotation, f"inv_freq is stored in {lost.dtype}.")
    text = f"The angles are computed in {lost.dtype}: cos or sin is off by {lost.error:.2g} at position {lost.position}"
    return _finding(TABLE_DIFFERS, "RD501", rotation, f"{text} from what they are in float32.")


def _finding(kind: str, code: str, rotation: RaisedRotation, text: str) -> Finding:
    return Finding(kind, "error", f"{rotation.name}: {code}, {CODES[code].lower()}. {text}", accepted=code)


def _mistake_found(found: Sequence[Finding]) -> MistakeFound:
    codes = tuple(dict.fromkeys(finding.accepted for finding in found))
    several = len({finding.message.partition(":")[0] for finding in found}) > 1
    todo = [f"`rope-deploy check --explain {codes[0]}` says what it means."]
    if set(codes) <= OF_PRECISION:
        todo.append(
            "`--angles float64` of `export`, or of `rewrite` with --config, computes them from the configuration."
        )
    todo.append(f"To go on with the angles as they are: {' '.join(f'--accept {code}' for code in codes)}.")
    return MistakeFound(
        f"{'Rotations are' if several else 'The rotation is'} not what the configuration asks for."
        if not set(codes) <= OF_PRECISION
        else "The angles lose precision.",
        exists="\n".join(f"  - {finding.message}" for finding in found),
        todo=" ".join(todo),
        codes=codes,
    )
