"""The shapes in the signatures are true: contracts and theorems run once more, every call of these rooms checked."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("tightframe.collapse", "tightframe.geometry", "tightframe.features.moments")


@pytest.mark.slow
def test_contracts_and_theorems_hold_with_shapes_checked():
    checked = ",".join([*ROOMS, "beartype.beartype"])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--jaxtyping-packages={checked}"]
    theorems = sorted((ROOT / "tests/theorems").glob("test_*.py"))
    suites = [path for path in theorems if any(room in path.read_text(encoding="utf-8") for room in ROOMS)]
    assert suites
    run = subprocess.run(
        [*command, "tests/contracts/test_every_metric.py", *map(str, suites)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stdout[-3000:]


def test_the_check_notices_a_wrong_shape():
    program = (
        "from jaxtyping import install_import_hook\n"
        "hook = install_import_hook(['tightframe.geometry'], 'beartype.beartype')\n"
        "import jaxtyping, torch\n"
        "import tightframe.geometry.frames as frames\n"
        "frames.haar_columns = lambda *_, seed: torch.zeros(7)\n"
        "try:\n"
        "    frames.orthogonal_frame(3, 4)\n"
        "except jaxtyping.TypeCheckError:\n"
        "    raise SystemExit(7)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 7, run.stderr
