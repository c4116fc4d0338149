"""How do the readers of files take damaged, misleading and hostile ones?

python -m benchmarks.robustness                      all readers, 400 cases each
python -m benchmarks.robustness --reader "array .npy" --first 17 --cases 1
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

from benchmarks.measuring import Report, arguments
from benchmarks.robustness.campaign import MEMORY, SECONDS, outcomes
from benchmarks.robustness.readers import READERS

_CASES, _QUICK = 400, 12
_ABOUT = (
    "Whole files of every format{real}, damaged at random but the same in every run: bits, lengths and pieces; fields, "
    "encodings and nesting of texts; headers, members, checksums and directories of formats, made to fit again. "
    "Refused: an error of this library that names the file and says what to do. Read: an answer that keeps the "
    "reader's promises. Fault: anything else (another exception, a dead process, {seconds} s, {memory} GiB, executed "
    "code, a file left behind)."
)


def main() -> None:
    """Run the campaign, and write the table."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--reader", action="append", help="one of these readers only; may be given several times")
    parser.add_argument("--cases", type=int, help=f"cases of each reader ({_CASES}; {_QUICK} with --quick)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    options = parser.parse_args()
    count = options.cases or (_QUICK if options.quick else _CASES)
    report = Report("Damaged files", "python -m benchmarks.robustness")
    real = ", small real ones among them" if os.environ.get("TIGHTFRAME_DATA") else ""
    report.say(_ABOUT.format(real=real, seconds=SECONDS, memory=MEMORY >> 30))
    chosen = [reader for reader in READERS if not options.reader or reader.name in options.reader]
    rows, faults = [], []
    for reader in chosen:
        begun, found = time.perf_counter(), Counter()
        for outcome in outcomes(reader, range(options.first, options.first + count)):
            found[outcome.kind] += 1
            if outcome.kind == "fault":
                faults.append((reader.name, outcome.case, outcome.detail.replace("\n", " ").replace("|", "/")))
        sys.stderr.write(f"{reader.name}: {dict(found)}\n")
        rows.append((reader.name, count, found["refused"], found["read"], found["fault"], time.perf_counter() - begun))
    totals = [sum(row[place] for row in rows) for place in range(1, 6)]
    report.table(["reader", "cases", "refused", "read", "faults", "seconds"], [*rows, ("all", *totals)])
    if faults:
        report.table(["reader", "case", "fault"], faults)
    report.finish("robustness", options)


if __name__ == "__main__":
    main()
