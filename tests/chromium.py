"""Opens pages in headless Chromium, without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=20000",
)


def browse(path: Path, folder: Path, *flags: str) -> tuple[str, str]:
    """What the browser writes to its output, and its log; the test is skipped where there is no browser."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    done = subprocess.run(
        [found, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, path.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


def with_script(report: Path, folder: Path, script: str, *, early: str = "") -> Path:
    """A copy of the page with one more script before and after its own, for which its content policy has to go."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", report.read_text(encoding="utf-8"))
    head, tail = text.rsplit("</body>", 1)
    head = head.replace("<body>", f"<body><script>{early}</script>", 1)
    return write(folder / "copy.html", f"{head}<script>{script}</script></body>{tail}")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def title(document: str) -> str:
    """Where the scripts of the tests leave what they measured."""
    return re.search(r"<title>(.*?)</title>", document).group(1)


def states(document: str) -> list[str]:
    return re.findall(r'<figure id="figure-\d+"[^>]*data-state="(\w+)"', document)
