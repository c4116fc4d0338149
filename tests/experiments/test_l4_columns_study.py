"""Fourth powers on the sphere as an experiment: closed forms against brute force, claims that follow and can fail."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.experiments import catalog
from tightframe.experiments.dictionary import column_claims, l4_columns
from tightframe.experiments.dictionary.l4_landscapes import (
    Sparse,
    column_ends,
    critical_points,
    eighth_moment,
    exactness,
    moments,
    nearest_distances,
    population_ends,
    refined_columns,
    whole_basis,
)
from tightframe.experiments.dictionary.power_laws import half_crossing, log_slope, root_mean_square
from tightframe.report import page
from tightframe.runs.record import Record

TINY = l4_columns.Config(
    starts=20,
    columns=((6, 4_000),),
    strict=(3, 150_000),
    draws=2,
    bases=((6, 4_000),),
    noisy=(6, 2_000),
    densities=(0.1, 0.9),
    noises=(0.0, 0.4),
    exact=(24,),
    ratios=(5, 10),
    moments=((4, 4), (4, 6)),
    averaged=(1_000, 8_000),
    averages=60,
    landscape=(6, 10),
    covered=(1.0, 1.3),
    beyond=(4.0,),
    descents=20,
    searches=4,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("l4-columns").run(config=TINY)


def test_every_claim_belongs_to_the_entry_and_was_run(record):
    assert {claim.id.split(".")[0] for claim in record.claims} == {"D1", "D2", "D3"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 9 + 6 + 3
    assert "not run" not in {claim.verdict for claim in record.claims}
    assert record.answer.startswith("Of 60 random starts, 60 end within 1e-2")


def test_what_theory_says_holds_on_small_dictionaries(record):
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    for name in ("D1.start.power", "D1.start.rgd", "D1.distance", "D1.refined", "D1.basis", "D1.exact"):
        assert verdicts[name] == "passed", name
    for name in ("D2.c1.gaussian", "D2.c2.rademacher", "D3.orthogonal.m1n", "D3.tight.m1.3n", "D3.incoherent.m1.3n"):
        assert verdicts[name] == "passed", name


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 6


def test_the_tables_hold_every_draw(record):
    rows = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    kinds = rows.pop("critical points"), rows.pop("kinds")
    assert min(kinds) > 5
    assert rows == {
        "starts": 2 + 1 + 1,
        "distances": 1,
        "bases": 2 + 4 * 2,
        "noise": 4,
        "exact": 2 * 2 * 2 * 2,
        "exact recovery": 2 * 2 * 2,
        "averages": 8,
        "elsewhere": 2 * 3 + 2 * 2,
    }
    found = record.tables["kinds"]
    descents = sum(n for n, how in zip(found["starts"], found["found by"], strict=True) if how == "descent")
    assert descents == 20 * rows["elsewhere"]


def test_columns_under_noise_and_dense_codes_are_lost(record):
    table = record.tables["noise"]
    shares = {
        (row[0], row[1]): row[2]
        for row in zip(table["density"], table["deviation of noise"], table["columns within 1e-2"], strict=True)
    }
    assert shares[("0.1", "0")] == shares[("0.1", "0.4")] == 1
    assert shares[("0.9", "0")] < 1


@pytest.mark.parametrize(("values", "powers"), [("gaussian", (1, 15, 105)), ("rademacher", (1, 1, 1))])
def test_the_eighth_moment_is_that_of_all_supports(values, powers):
    """Sums over all 2^3 supports: Gaussian sums are Gaussian; sums of signs run over all signs."""
    weights, density = torch.tensor([0.7, -0.5, 1.1], dtype=torch.float64), 0.3
    total = 0.0
    for support in itertools.product((0, 1), repeat=3):
        chance = math.prod(density if there else 1 - density for there in support)
        kept = [w for w, there in zip(weights.tolist(), support, strict=True) if there]
        if values == "gaussian":
            moment = powers[2] * sum(w * w for w in kept) ** 4
        else:
            sums = [sum(s * w for s, w in zip(signs, kept, strict=True)) for signs in _signs(len(kept))]
            moment = sum(number**8 for number in sums) / len(sums)
        total += chance * moment
    assert eighth_moment(weights, density, values=values) == pytest.approx(total, rel=1e-12)


def _signs(count: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=count))


def test_distances_keep_small_digits_and_ignore_sign_and_length():
    atoms = torch.eye(3, dtype=torch.float64)
    near = torch.tensor([[-2.0, 2e-12, 0.0], [3.0, 0.0, 4.0]], dtype=torch.float64)
    expected = [1e-12, (0.36 + 0.04) ** 0.5]
    assert nearest_distances(near, atoms).tolist() == pytest.approx(expected, rel=1e-9)


def test_ends_on_data_are_those_of_the_objective_and_refinement_is_exact():
    cell = Sparse(5, 5, 3000, 0.2, seed=3)
    atoms = cell.dictionary
    rows = cell.rows(atoms)
    row = column_ends((cell, "power", 10))
    assert row["share near a column"] == 1
    assert row["distance, refined"] < 1e-9 < row["distance"] < 3 * row["predicted distance"]
    # A point that is displaced further than the objective's own maximum is taken back, too.
    displaced = torch.nn.functional.normalize(atoms + 0.05, dim=1)
    assert float(nearest_distances(refined_columns(rows, displaced), atoms).max()) < 1e-9


def test_the_two_ways_to_climb_end_at_the_same_points():
    cell = Sparse(5, 5, 3000, 0.2)
    power, steps = (column_ends((cell, method, 10)) for method in ("power", "rgd"))
    assert power["distance"] == pytest.approx(steps["distance"], abs=1e-5)


def test_a_basis_is_found_and_refined_and_noise_leaves_nothing_to_refine():
    clean, noisy = (whole_basis((Sparse(6, 6, 3000, 0.1), noise)) for noise in (0.0, 0.3))
    assert clean["l4 score, refined"] < 1e-12 < clean["l4 score"] < noisy["l4 score"]
    assert noisy["l4 score, refined"] is None


def test_exact_recovery_needs_samples():
    assert exactness((Sparse(24, 24, 480, 0.1), 3))["exact"]
    assert not exactness((Sparse(24, 24, 48, 0.1), 3))["exact"]


def test_averages_have_the_deviation_that_is_predicted():
    rows = moments((Sparse(4, 6, 4000, 0.3, values="rademacher"), 150))
    off = [(row["measured"] - row["expected"]) / row["deviation"] for row in rows]
    # The root mean square of 150 standard normal numbers has a standard deviation of 0.058.
    assert root_mean_square(off) == pytest.approx(1, abs=0.25)


def test_critical_points_of_an_orthogonal_dictionary_are_known():
    """Those of -|q|_4^4 have equal moduli on their support: r of them give 1 - r^(-1/2) to the nearest column."""
    rows = critical_points((Sparse(4, 4), 10, 20))
    for row in rows:
        size = round(1 / (1 - row["gap"]) ** 2)
        assert row["gap"] == pytest.approx(1 - size**-0.5, abs=1e-9)
        assert row["value"] == pytest.approx(-1 / (4 * size), abs=1e-9)
        assert row["kind"] == ("column" if size == 1 else "strict saddle")


def test_descents_on_the_expectation_do_not_move_at_a_column():
    atoms = Sparse(4, 4).dictionary
    assert torch.allclose(population_ends(atoms, atoms), atoms, atol=1e-12)


def test_dictionaries_are_what_they_say():
    tight, incoherent = Sparse(4, 7).dictionary, Sparse(4, 7, frame="incoherent").dictionary
    assert torch.allclose(tight.T @ tight, 7 / 4 * torch.eye(4, dtype=torch.float64), atol=1e-8)
    assert float((incoherent @ incoherent.T).fill_diagonal_(0).abs().max()) < 0.5
    with pytest.raises(InputError, match="tight, incoherent or gaussian"):
        _ = Sparse(4, 7, frame="loose").dictionary


def test_claims_fail_where_starts_end_elsewhere_and_averages_are_off(record):
    ends = [column_ends((Sparse(6, 6, 30, 0.5), "power", 20))]
    verdicts = {claim.id: claim.verdict for claim in column_claims.start_claims(ends, ends)}
    assert verdicts["D1.start.power"] == verdicts["D1.distance"] == verdicts["D1.refined"] == "failed"
    averages = [row for p in (500, 4000) for row in moments((Sparse(4, 4, p, 0.3), 100))]
    spoiled = [row | {"measured": 1.1 * row["measured"]} for row in averages]
    verdicts = {claim.id: claim.verdict for claim in column_claims.moment_claims(spoiled)}
    assert verdicts["D2.error"] == verdicts["D2.c1.gaussian"] == "failed"
    assert {claim.verdict for claim in column_claims.moment_claims(averages)} == {"passed"}


def test_claims_fail_where_there_is_a_third_kind():
    config = replace(TINY, landscape=(6,), covered=(1.0, 4.0))
    points = [row for item in l4_columns._landscapes(config) for row in critical_points(item)]
    verdicts = {claim.id: claim.verdict for claim in column_claims.point_claims(points, config.covered)}
    assert verdicts["D3.orthogonal.m1n"] == "passed"
    assert verdicts["D3.tight.m4n"] == "failed"


def test_slopes_and_crossings():
    assert log_slope([1, 10, 100], [5, 0.5, 0.05]) == pytest.approx(-1)
    assert half_crossing([1, 2, 8], [1.0, 0.75, 0.25]) == pytest.approx(4)
    assert half_crossing([1, 2], [0.4, 0.2]) is None
    with pytest.raises(DegenerateError, match="two or more different positive"):
        log_slope([2, 2], [1, 3])


def test_presets_grow():
    smoke, quick, paper = (l4_columns.PRESETS[name] for name in ("smoke", "quick", "paper"))
    assert smoke.starts < quick.starts == paper.starts == 1000
    assert paper.noisy == (50, 10_000)
    assert paper.draws == 10
    assert set(smoke.landscape) < set(quick.landscape) < set(paper.landscape)
