"""Run races, then gather everything measured into records, a page, and the tables of bars and of ratios."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import RESULTS
from benchmarks.races.gathered import records, write_tables
from benchmarks.reading import read_results

from tightframe.report import page
from tightframe.runs.store import write_atomic

ROOT = Path(__file__).parents[2]
RACES = (
    "ufm_solvers",
    "completion",
    "tangent_kernels",
    "deconvolution",
    "spikes",
    "dictionaries",
    "convolutional",
    "denoising",
    "adapters",
)
# Those that say nothing without the other tools.
NEED_PEERS = ("measuring_tools", "right_or_wrong")


def main() -> int:
    options = _arguments().parse_args()
    out: Path = options.out
    folder = options.results or (out / "results" if options.quick else RESULTS)
    names = [] if options.gather else options.races or [*RACES, *(NEED_PEERS if options.peer else ())]
    failed = [name for name in names if not _ran(name, folder, options)]
    results = read_results(folder)
    for path in write_tables(results, folder, toy=options.quick):
        print(path)
    gathered = records(results)
    for record in gathered:
        (out / record.name).mkdir(parents=True, exist_ok=True)
        write_atomic(out / record.name / "record.json", record.to_json())
    print(page.write(gathered, out / "report.html", title="Races at toy sizes" if options.quick else "Races"))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races", description=__doc__)
    names = (*RACES, *NEED_PEERS)
    parser.add_argument("races", nargs="*", choices=[*names, []], metavar="RACE", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small sizes; the results go to OUT/results")
    parser.add_argument("--gather", action="store_true", help="run nothing: gather what has been measured")
    parser.add_argument("--out", type=Path, default=Path("runs/races"), help="folder of the page (runs/races)")
    parser.add_argument("--results", type=Path, help="folder of the tables (benchmarks/results)")
    parser.add_argument("--peer", action="append", default=[], help="for the races of measuring tools, see README.md")
    return parser


def _ran(name: str, folder: Path, options: argparse.Namespace) -> bool:
    """Whether the race ended well; each runs in a process of its own, as memory and first calls are measured too."""
    print(f"{name} ...", file=sys.stderr)
    command = [sys.executable, "-m", f"benchmarks.races.{name}", "--out", str(folder.resolve())]
    command += ["--quick"] if options.quick else []
    command += [part for path in options.peer for part in ("--peer", path)] if name in NEED_PEERS else []
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
