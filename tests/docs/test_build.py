"""The documentation builds without a warning, and its pages fetch nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the docs extra")

DOCS = Path(__file__).parents[2] / "docs"
FETCHED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"https?:|<link\b[^>]*\bhref=\"https?:", re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pages_build_without_warnings_and_fetch_nothing(tmp_path):
    built = tmp_path / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(built)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    pages = sorted(built.rglob("*.html"))
    assert len(pages) > 40
    fetching = {page.name: FETCHED.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {name: found for name, found in fetching.items() if found} == {}
    styles = "".join(path.read_text(encoding="utf-8") for path in (built / "_static").rglob("*.css"))
    assert not re.search(r"url\([\"']?https?:|@import\s+[\"']https?:", styles)
    text = (built / "concepts/optima.html").read_text(encoding="utf-8")
    assert "<math" in text
    assert "MathJax" not in text
