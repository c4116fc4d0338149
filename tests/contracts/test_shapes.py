"""The shapes in the signatures are true: contract and theorem suites run once more with every call type-checked."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = "tightframe.collapse,tightframe.geometry,tightframe.features.moments,beartype.beartype"


def test_contracts_and_theorems_hold_with_shapes_checked():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--jaxtyping-packages={ROOMS}"]
    suites = ["tests/contracts/test_every_metric.py", "tests/theorems"]
    run = subprocess.run([*command, *suites], cwd=ROOT, capture_output=True, text=True, timeout=240)
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
