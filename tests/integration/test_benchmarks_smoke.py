"""Every benchmark runs at toy sizes and writes the table that its readers expect."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What needs the data sets or the other tools, which a quick run does without.
ABSENT = ("races", "convolutional_races")
CURVES = (
    *("ufm_races", "completion", "convolutional_races", "dictionary_races"),
    *("deconvolution_races", "tangent_kernels"),
)

TABLES = {
    "accuracy.moments": (
        "accuracy",
        ["| std | order | batch | 1 worker |", "| bar met | raw float32 |", "| std | batch | N = "],
    ),
    "accuracy.layer_choice": (
        "layer_choice",
        ["| shots | split | chosen | accuracy (%) | best |", "| shots | regret of auto | regret of last block |"],
    ),
    "speed.moments_update": ("moments_update", ["| d | K | mode | bare GEMM (s) | update (s) | ratio | bar met |"]),
    "speed.metrics": ("metrics", ["| threads | CPU (s) | wall (s) | bar met |", "| NC1 |", "| bias collapse |"]),
    "speed.wide_layers": ("wide_layers", ["| d | N | CPU (s) | memory (MB) | bar | met |"]),
    "speed.vocabulary": (
        "vocabulary",
        ["| mode | update (s) | D (s) | NC2 (s) | equinorm (s) | peak (GiB) | bar met |"],
    ),
    "speed.ufm_certificates": (
        "ufm_certificates",
        ["| point | bias | certify (s) | bare products (s) | ratio | gap |", "| loss | bias | solve (s) |"],
    ),
    "speed.sop_step": ("sop_step", ["| K | loss | step with CE (s) |", "| storage | published form (s) |"]),
    "speed.rate_reduction": ("rate_reduction", ["| m | d | K |"]),
    "speed.tuning": ("tuning", ["| layer | method | trained | epoch (s) |"]),
    "speed.transfer_scores": (
        "transfer_scores",
        ["| d | N | K | forward (s) |", "| N | d | K | all six, ours (s) |"],
    ),
    "scale.streamed": ("streamed", ["| pass | seconds |", "| moments | difference |"]),
    "scale.growth": ("growth", ["| mode | n | d | K |", "| mode | in |"]),
    "scale.processes": ("processes", ["| processes | update (s) |"]),
    "scale.on_paper": ("on_paper", ["| case | p | scheme |", "| case | p | forward, s |"]),
    "robustness": ("robustness", ["| reader | cases |"]),
    "speed.completion_scaling": ("completion_scaling", ["| observations | columns | layers |", "| in | step, ms |"]),
    "speed.tangent_kernel_scale": ("tangent_kernel_scale", ["| N | product (s) |", "| N | method |"]),
    "speed.deep_linear": ("deep_linear", ["| d | steps | full (s) |", "| d | steps | frames (s) |"]),
    "races.dictionaries": (
        "dictionary_races",
        ["| dictionary | learner | CPU s |", "| size | step / products | gradient / products |"],
    ),
    "races.deconvolution": ("deconvolution_races", ["| signal | p | theta | loss |", "| kernel | codes |"]),
    "races.convolutional": ("convolutional_races", ["| solver | objective | CPU s |", "| problem | iteration, ms |"]),
    "races.completion": ("completion", ["| problem | method | error | CPU s |", "| observations | columns | layers |"]),
    "races.tangent_kernels": (
        "tangent_kernels",
        ["| L | first | later | error |", "| N | d | kernel, L = 125, s |", "| method | CPU s | times ours |"],
    ),
    "races.adapters": ("adapters", ["| method | trained numbers | rate | accuracy |"]),
    "races.spikes": ("spikes", ["| waveforms | noise | method | F1 |"]),
    "races.denoising": ("denoising", ["| image | noise | method | PSNR (dB) | SSIM | CPU (s) |"]),
    "races.ufm_solvers": ("ufm_races", ["| problem | solver | value | gap | seconds |", "| pymanopt, autodiff |"]),
    "races.measuring_tools": (
        "races",
        ["| tool | CPU (s) | memory (MB) | NC1 |", "Absent, so skipped: rhubarbwu/neural-"],
    ),
    "races.right_or_wrong": (
        "right_or_wrong",
        ["| case | definition | tightframe |", "Absent, so skipped: rhubarbwu/neural-"],
    ),
}


def _exact_at_toy_size(table: str) -> None:
    rows = [line for line in table.splitlines() if re.match(r"\| [\d.]+ \| (shuffled|sorted|rev)", line)]
    assert len(rows) == 3 * 3 * 2
    assert all("| yes |" in row for row in rows)


def _right_in_every_case(table: str) -> None:
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| (NC|CDNV)", line)]
    assert len(rows) == 12
    assert all("wrong" not in cells[3] for cells in rows)


# What the table says besides, where that does not depend on the size.
SAID = {"accuracy.moments": _exact_at_toy_size, "races.right_or_wrong": _right_in_every_case}


# Those of more than six seconds, which together would take a quarter of the default tests.
LONGER = {
    *("accuracy.layer_choice", "robustness", "scale.growth", "scale.processes"),
    *("races.adapters", "races.completion", "races.convolutional", "races.denoising", "races.dictionaries"),
    *("races.spikes", "races.tangent_kernels", "races.ufm_solvers"),
    *("speed.deep_linear", "speed.sop_step", "speed.tangent_kernel_scale", "speed.tuning", "speed.ufm_certificates"),
    *("speed.vocabulary", "speed.wide_layers"),
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONGER)) for name in TABLES])
def test_a_benchmark_writes_the_table_that_its_readers_expect(name, tmp_path, monkeypatch):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / f"{TABLES[name][0]}.md").read_text()
    assert table == done.stdout.removesuffix("\n")
    for part in (f"Command: `python -m benchmarks.{name}", "- Machine: ", "- Versions: Python ", *TABLES[name][1]):
        assert part in table
    for line in re.findall(r"^\| --- .*$", table, flags=re.MULTILINE):
        assert re.fullmatch(r"\|( --- \|)+", line)
    assert str(ROOT) not in table
    monkeypatch.syspath_prepend(ROOT)
    _bars_and_ratios_find_their_columns(tmp_path, TABLES[name][0])
    if name in SAID:
        SAID[name](table)


def _bars_and_ratios_find_their_columns(results: Path, stem: str) -> None:
    from benchmarks.races.bars import BARS
    from benchmarks.races.ratios import COMPARISONS
    from benchmarks.reading import MissingTableError, read_results

    found = read_results(results)[stem]
    readers = [bar.observed for group in BARS.values() for bar in group if bar.result == stem]
    readers += [lambda result, each=each: list(each.rows(result)) for each in COMPARISONS if each.result == stem]
    for reader in readers:
        with suppress(MissingTableError) if stem in ABSENT else nullcontext():
            reader(found)
    assert (len(found.curves) > 0) == (stem in CURVES)
