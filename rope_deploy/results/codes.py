"""The stable codes of every mistake that can be named, and their titles. Each has a page in docs/diagnostics.md.

RD1xx layout and direction · RD2xx positions · RD3xx angles · RD4xx lengths of vectors ·
RD5xx in which precision · RD6xx what a file holds · RD9xx what is not a rotation, or not understood.
A code is never reused for something else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rope_deploy.errors import UsageError

CODES: Mapping[str, str] = {
    "RD101": "Half-split and interleaved are swapped",
    "RD102": "The rotation goes the wrong way",
    "RD103": "rotary_dim is wrong",
    "RD104": "The wrong end of the head is rotated",
    "RD105": "A proportional rotation pairs within a prefix, or a prefix across the head",
    "RD106": "The rotation is missing",
    "RD107": "The rotation is applied twice",
    "RD108": "Only one of q and k is rotated",
    "RD109": "The rotation of another layer type is applied",
    "RD110": "A layer that must not be rotated is rotated",
    "RD111": "cos and sin are exchanged, or every pair has a constant phase",
    "RD112": "Some pairs are rotated in part or not at all",
    "RD201": "Positions are off by a constant",
    "RD202": "Positions start again after the cache",
    "RD203": "position_ids are ignored",
    "RD204": "Positions come from another row of the batch",
    "RD205": "Positions are shifted by padding",
    "RD206": "Positions wrap around",
    "RD207": "The table ends too early",
    "RD209": "M-RoPE sections are in the wrong order",
    "RD210": "M-RoPE positions are flattened to one axis",
    "RD301": "rope_theta is wrong",
    "RD302": "The scaling rule was dropped",
    "RD303": "Another scaling rule is applied",
    "RD304": "The scaling factor is wrong",
    "RD305": "YaRN's truncate is inverted",
    "RD306": "YaRN's beta_fast or beta_slow is wrong",
    "RD307": "A rule of the length is frozen at one length",
    "RD308": "LongRoPE's short and long factors are mixed up",
    "RD309": "Single frequencies are wrong",
    "RD401": "attention_scaling is missing",
    "RD402": "attention_scaling is applied twice",
    "RD403": "Rotated vectors have the wrong length",
    "RD501": "Angles are computed in half precision",
    "RD502": "Angles are computed in TF32",
    "RD503": "The table was rounded to half precision",
    "RD504": "The frequencies were rounded to half precision",
    "RD601": "A rotation in the file was not understood",
    "RD602": "The file has fewer or more rotations than the configuration asks for",
    "RD603": "The model does not follow the rule that is stated",
    "RD604": "The file has no position_ids",
    "RD605": "Cos and Sin are computed for every call",
    "RD606": "The files are not those that were exported",
    "RD607": "The manifest is not true of its graph or its model",
    "RD608": "A limit keeps cases from being judged",
    "RD609": "The angles follow from more than the position",
    "RD900": "The rotation is wrong in a way that has no name",
    "RD901": "The rotation is right, the error lies elsewhere",
    "RD902": "The runtime crashed",
}


def require_codes(codes: Collection[str]) -> frozenset[str]:
    """`codes` as a set. Raises UsageError for one that there is not."""
    if strange := [code for code in codes if code not in CODES]:
        raise UsageError(f"There is no code {', '.join(strange)}.", todo="docs/diagnostics.md lists them.")
    return frozenset(codes)
