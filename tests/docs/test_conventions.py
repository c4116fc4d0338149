"""docs/conventions.md lists every convention as the code states it, and every source exists in the bibliography."""

import re
from pathlib import Path

import pytest

from tightframe.collapse.conventions import OTHERS, VARIABILITY

ROOT = Path(__file__).parents[2]
CONVENTIONS = [*VARIABILITY.values(), *OTHERS.values()]


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: f"{c.metric}-{c.name}")
def test_the_page_states_the_formula_of_the_code(convention):
    formula = convention.formula.replace("|", "&#124;")
    row = f"| {convention.metric} | `{convention.name}` | {formula} | {convention.source} |"
    assert row in (ROOT / "docs/conventions.md").read_text(encoding="utf-8")


def test_every_cited_key_is_in_the_bibliography():
    keys = set(re.findall(r"@\w+\{(\w+),", (ROOT / "docs/references.bib").read_text(encoding="utf-8")))
    cited = {key for c in CONVENTIONS for key in re.findall(r"[a-z]+\d{4}[a-z0-9]+", c.source)}
    for source in (ROOT / "src").rglob("*.py"):
        cited |= set(re.findall(r"\[([a-z]+\d{4}[a-z0-9]+)\]", source.read_text(encoding="utf-8")))
    assert cited <= keys
