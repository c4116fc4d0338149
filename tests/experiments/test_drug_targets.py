"""Drugs and targets: folds, scores against their definition, not run without data, and verdicts from folds."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
import torch

from tightframe.deeplinear.observations import observe
from tightframe.experiments import catalog
from tightframe.experiments.base import Place
from tightframe.experiments.deeplinear import drug_targets
from tightframe.experiments.deeplinear.drug_targets import Config, Fold, held_out_folds, score_fold
from tightframe.report import page
from tightframe.runs.record import Record

TINY = Config(used=2, rank=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a matrix of blocks: which drug binds which target is told by two groups of each."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "dti").mkdir()
    draws = np.random.default_rng(0)
    matrix = np.kron(np.eye(2), np.ones((10, 15))).astype(int)
    flipped = draws.random(matrix.shape) < 0.02
    matrix[flipped] = 1 - matrix[flipped]
    lines = ["\t" + "\t".join(f"D{j}" for j in range(30))]
    lines += [f"T{i}\t" + "\t".join(map(str, row)) for i, row in enumerate(matrix)]
    (folder / "dti/nr_admat_dgc.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


@pytest.fixture(scope="module")
def record(root) -> Record:
    return catalog.load("drug-targets").run(config=TINY, place=Place(data_root=root))


def test_the_record_survives_its_file_and_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 2
    assert [claim.id for claim in record.claims] == ["P8.drugs.nr.AUC", "P8.drugs.nr.AUPR"]
    assert len(record.tables["folds"]["method"]) == 2 * 5


def test_completion_sees_groups_where_effects_of_rows_and_columns_see_nothing(record):
    means = dict(zip(record.tables["means"]["method"], record.tables["means"]["AUC"], strict=True))
    for method in drug_targets._METHODS[:-1]:
        assert means[method] > 0.9
    assert means[drug_targets._EFFECTS] < 0.7


def test_scores_are_those_of_the_entries_that_were_hidden(root):
    row = score_fold(Fold(TINY, "nr", 1, drug_targets._EFFECTS, root))
    matrix = torch.from_numpy(drug_targets.drug_targets("nr", root=root).matrix)
    hidden = held_out_folds(matrix, TINY)[1]
    seen = torch.where(hidden, torch.nan, matrix)
    scores = drug_targets._completions()[drug_targets._EFFECTS](observe(seen), TINY)[hidden].tolist()
    truth = matrix[hidden].tolist()
    pairs = [(s > t) + 0.5 * (s == t) for s, a in zip(scores, truth, strict=True) if a
             for t, b in zip(scores, truth, strict=True) if not b]  # fmt: skip
    assert row["AUC"] == pytest.approx(sum(pairs) / len(pairs))


def test_folds_part_the_entries_and_share_the_interactions(root):
    matrix = torch.from_numpy(drug_targets.drug_targets("nr", root=root).matrix)
    folds = held_out_folds(matrix, TINY)
    assert torch.equal(sum(mask.long() for mask in folds), torch.ones(matrix.shape, dtype=torch.long))
    counts = [float(matrix[mask].sum()) for mask in folds]
    assert max(counts) - min(counts) <= 1
    again = held_out_folds(matrix, Config(seed=1))
    assert not torch.equal(folds[0], again[0])


def test_no_method_sees_what_is_hidden(root):
    matrix = torch.from_numpy(drug_targets.drug_targets("nr", root=root).matrix)
    hidden = held_out_folds(matrix, TINY)[0]
    seen = torch.where(hidden, torch.nan, matrix)
    other = torch.where(hidden, torch.nan, torch.where(hidden, 1 - matrix, matrix))
    for method in drug_targets._METHODS:
        one, two = (drug_targets._completions()[method](observe(given), TINY) for given in (seen, other))
        assert torch.equal(one, two)
        assert bool(torch.isfinite(one).all())


def test_without_the_data_nothing_is_run(monkeypatch, tmp_path):
    monkeypatch.delenv("TIGHTFRAME_DATA", raising=False)
    for place in (None, Place(data_root=tmp_path)):
        record = catalog.load("drug-targets").run(config=TINY, place=place)
        assert [claim.verdict for claim in record.claims] == ["not run"] * 2
        assert all("needs the drug-target matrices" in claim.note for claim in record.claims)
        assert record.panels == ()
        assert "Nothing was measured" in record.answer


def folds(ours, nuclear, least):
    names = (drug_targets._OURS, drug_targets._NUCLEAR, drug_targets._LEAST)
    return [
        {"set": "nr", "fold": fold, "method": name, "AUC": score}
        for name, scores in zip(names, (ours, nuclear, least), strict=True)
        for fold, score in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("rows", "lead", "verdict"),
    [
        (folds((0.9, 0.8), (0.7, 0.7), (0.8, 0.8)), 0.05, "passed"),
        (folds((0.7, 0.7), (0.8, 0.82), (0.1, 0.1)), -0.11, "failed"),
        # The differences -0.2 and 0.1 have mean -0.05 and a standard error of 0.15.
        (folds((0.6, 0.9), (0.8, 0.8), (0.1, 0.1)), -0.05, "passed"),
    ],
)
def test_verdicts_follow_from_folds(rows, lead, verdict):
    claim = drug_targets._claim("nr", "AUC", rows)
    assert claim.observed == pytest.approx(lead)
    assert claim.verdict == verdict


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("TIGHTFRAME_DATA"), reason="needs TIGHTFRAME_DATA")
def test_nuclear_receptors_are_ranked_better_than_by_chance():
    row = score_fold(Fold(Config(rank=6), "nr", 0, drug_targets._OURS))
    assert row["AUC"] > 0.6
    assert row["AUPR"] > 0.1  # the share of interactions is 0.064
