"""The ledger of claims: what the sources state, id by id, without importing any experiment."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tightframe.core.errors import InputError
from tightframe.experiments.statements import LEDGER, Statement

# The abbreviations that `source` uses, with their keys in the bibliography.
SOURCES = {
    "Q21": "Qu, From Shallow to Deep Representation Learning in Imaging and Beyond, talk, 2021 [qu2021shallow]",
    "L4": "Low-Dimensional Models for High-Dimensional Data, ICASSP 2022 short course, lecture 4 [qu2022lecture4]",
    "L6": "Learning Nonlinear and Deep Representations, ICASSP 2023 short course, lecture 6 [qu2023lecture6]",
    "TB": "Tirer and Bruna, Extended Unconstrained Features Model, 2022 [tirer2022extended]",
    "YN": "Yaras et al., Neural Collapse with Normalized Features, 2022 [yaras2022neural]",
}
SUBJECTS = {
    "D": "Dictionaries and deconvolution",
    "N": "Collapse and unconstrained features",
    "T": "Transfer",
    "R": "Wrong labels",
    "P": "Deep linear networks",
    "K": "Two manifolds and the tangent kernel",
    "X": "Beyond the sources",
}


def chosen(names: Sequence[str] = ()) -> tuple[Statement, ...]:
    """The lines that are named by id ("N4") or by the letter of a subject ("N"), in the ledger's order; all by default.

    Raises:
        InputError: A name that is neither.

    >>> [line.id for line in chosen(["R", "T1"])]
    ['T1', 'R1', 'R2', 'R3']
    """
    for name in names:
        if not any(name in (line.id, subject(line.id)) for line in LEDGER):
            raise InputError(
                "the id of a claim, or the letter of a subject",
                got=repr(name),
                remedy=f"Use one of {', '.join(SUBJECTS)}, or one of {', '.join(line.id for line in LEDGER)}.",
            )
    return tuple(line for line in LEDGER if not names or {line.id, subject(line.id)} & set(names))


def subject(identifier: str) -> str:
    """The letter that an id begins with.

    >>> subject("N16")
    'N'
    """
    return re.match(r"[A-Z]*", identifier).group()
