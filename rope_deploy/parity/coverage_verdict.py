"""The verdict on a check as a whole: was every rotation of the manifest compared, and with what?"""

from __future__ import annotations

from collections.abc import Sequence

from rope_deploy.parity.case_result import CaseResult
from rope_deploy.parity.run_calls import CheckSetup
from rope_deploy.parity.sites_text import sites_text
from rope_deploy.results.records import CheckRecord


def coverage_verdict(setup: CheckSetup, results: Sequence[CaseResult]) -> CheckRecord:
    """Skipped if a site could not be seen; failed if PyTorch rotates what the manifest does not list."""
    manifest, runtime = setup.manifest, setup.runtime
    seen = {one.site.key: one.through for result in results for one in result.sites if one.differences}
    hidden = [site for site in manifest.sites if site.key not in seen]
    by_products = [(site.layer, site.role) for site in manifest.sites if seen.get(site.key) == "products"]
    if hidden:
        verdict = "skipped"
        message = f"Not observable in {runtime.name}: {sites_text((site.layer, site.role) for site in hidden)}."
        message += f" {len(manifest.sites) - len(hidden)} of {len(manifest.sites)} sites were compared."
    else:
        verdict, message = "passed", f"All {len(manifest.sites)} sites were compared."
    if unlisted := sorted(_unlisted(setup, results)):
        verdict = "failed"
        message += f" PyTorch also rotates {sites_text(unlisted)}, which the manifest does not list."
    if by_products:
        message += f" Through the products q·k: {sites_text(by_products)}."
    if manifest.task == "tower":
        message += _tower_oracle_text(setup, results)
    elif without_rule := setup.oracle.without_rule:
        by = "by PyTorch's own angles" if setup.reference is not None else "by the tables of the file alone"
        message += f" No rule is known for {', '.join(without_rule)}: judged {by}."
    if setup.reference is None:
        message += (
            " Without PyTorch: results, values of the cache and what the manifest says of the model were not compared."
        )
    detail = "every site of the manifest is compared"
    return CheckRecord(manifest.style, runtime.name, "coverage", detail, verdict, None, message, 0.0)


def _unlisted(setup: CheckSetup, results: Sequence[CaseResult]) -> set[tuple[int, str]]:
    """Layer and role of what PyTorch rotates and the manifest does not list."""
    keys = {key for result in results for key in result.rotating} - {site.key for site in setup.manifest.sites}
    return {(int(layer), role) for layer, role in (key.split(".")[:2] for key in keys)}


def _tower_oracle_text(setup: CheckSetup, results: Sequence[CaseResult]) -> str:
    """What the rotations of a tower were compared with."""
    watched = {one.site.key for result in results for one in result.sites if one.of_kind("oracle") is not None}
    unwatched = [(site.layer, site.role) for site in setup.manifest.sites if site.key not in watched]
    if setup.reference is None or not unwatched:
        return "" if setup.reference is None else " PyTorch's own angles were the oracle."
    return (
        f" PyTorch's rotation was not seen: {sites_text(unwatched)}; judged by what holds of every rotation and by"
        " results."
    )
