"""Fixed frames as an experiment: what they save to the last parameter, and paired differences of accuracy."""

from __future__ import annotations

from dataclasses import replace
from statistics import stdev

import pytest

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.levers import fixed_heads
from tightframe.experiments.levers.head_runs import FRAME, HEADS, LEARNED, Config, Setting, published, reduced, trained
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.training.config import TrainConfig

SETTING = Setting("digits", "mlp-bn", TrainConfig(epochs=3, lr=0.05, schedule="cosine"), width=24, depth=2, limit=300)
TINY = Config((SETTING,), seeds=(0, 1), observations=3)
KEY = "N8.digits.mlp-bn"


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("fixed-heads").run(config=TINY)


def run(head: str, seed: int, accuracy: float, **changes):
    """A run that nobody made."""
    sizes = {"d": 24, "trainable parameters": 9, "of them in the classifier": 3, "test samples": 450}
    signs = {"NC1": 0.1, "NC2 features": 0.2, "NC2 classifier": 0.1, "NC3": 0.3, "NC4": 0.0}
    cell = {"setting": SETTING.name, "head": head, "seed": seed}
    return cell | sizes | {"training accuracy": 1.0, "test accuracy": accuracy} | signs | changes


def results(learned, frame, **changes):
    """Results of the two heads with these test accuracies by seed."""
    runs = [run(LEARNED, seed, value) for seed, value in enumerate(learned)]
    runs += [run(FRAME, seed, value, **changes) for seed, value in enumerate(frame)]
    return [fixed_heads._result(SETTING.name, name, runs) for name in (LEARNED, FRAME)]


def test_the_record_holds_every_head_and_survives_its_file(record):
    assert Record.from_json(record.to_json()) == record
    assert {claim.id.split(".")[0] for claim in record.claims} == set(catalog.entry("fixed-heads").claims)
    # Three shares, two counts and their shares, six heads beside the learned one, NC2 and NC3.
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 3 + 4 + 6 + 2
    lengths = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    assert lengths["heads"] == len(HEADS)
    assert lengths["runs"] == 2 * len(HEADS)
    assert lengths["training"] == len(HEADS) * 3 * 4
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 4


def test_all_counts_are_those_of_the_sources(record):
    counted = [claim for claim in record.claims if claim.id.split(".")[1] in ("share", "count", "further")]
    assert [claim.verdict for claim in counted] == ["passed"] * 7
    by_id = {claim.id: claim for claim in counted}
    assert by_id["N8.share.resnet50"].observed == pytest.approx(2_048_000 / 25_557_032)
    assert by_id["N8.count.resnet18"].observed == 8_867_442
    assert by_id["N8.count.resnet50"].observed == 22_481_010
    assert "fixing the classifier alone saves 5,120 (0.05%)" in by_id["N8.further.resnet18"].note
    assert "fixing the classifier alone saves 20,480 (0.09%)" in by_id["N8.further.resnet50"].note


def test_surgery_narrows_the_last_block_to_the_count_done_by_hand():
    small, large = reduced()
    # Last convolution and norm of the last block to 10 channels, and a projection in place of its identity shortcut.
    last = 512 * 9 * (512 - 10) + 2 * (512 - 10) - (512 * 10 + 2 * 10)
    assert (small["built"], small["with a fixed classifier"]) == (small["parameters"], small["parameters"] - 5120)
    assert small["and d = K"] == small["with a fixed classifier"] - last
    # The same with a 1x1 convolution from 512 channels; the shortcut projects 2048 channels.
    last = 512 * (2048 - 10) + 2 * (2048 - 10) - (2048 * 10 + 2 * 10)
    assert large["built"] == large["parameters"]
    assert large["and d = K"] == large["built"] - 20_480 - last


def test_the_share_of_shufflenet_is_that_of_one_variant():
    shares = {row["network"]: row["share"] for row in published()}
    assert shares["shufflenet-biased"] == pytest.approx(0.53, abs=0.005)
    assert [name for name, share in shares.items() if abs(share - 0.53) <= 0.005] == ["shufflenet-biased"]


def test_heads_have_the_dimensions_and_the_parameters_they_say(record):
    table = record.tables["heads"]
    found = dict(zip(table["head"], zip(table["d"], table["of them in the classifier"], strict=True), strict=True))
    assert found == {
        LEARNED: (24, 250),
        FRAME: (24, 10),
        f"{FRAME}, d = K": (10, 10),
        f"{FRAME}, d = K - 1": (9, 10),
        f"{LEARNED}, d = K": (10, 110),
        "normalised": (24, 240),
        "aligned frame": (24, 10),
    }


def test_the_digits_are_split_by_the_seed_and_a_fixed_frame_stays_a_simplex():
    first, curve = trained((SETTING, HEADS[1], 0, 2, True, None))
    again, none = trained((SETTING, HEADS[1], 0, 2, False, None))
    other, _ = trained((SETTING, HEADS[1], 1, 2, False, None))
    assert first == again
    assert first["NC1"] != other["NC1"]
    # Rounding of a float32 frame.
    assert first["NC2 classifier"] < 1e-6
    assert (none, {row["epoch"] for row in curve}) == ([], {0, 3})


def test_differences_are_paired_by_seed():
    _, frame = results((0.98, 0.99, 0.97), (0.981, 0.992, 0.964))
    differences = (0.001, 0.002, -0.006)
    assert frame["difference to learned"] == pytest.approx(-0.001)
    assert frame["standard error"] == pytest.approx(stdev(differences) / 3**0.5)
    assert results((0.98,), (0.97,))[1]["standard error"] is None


@pytest.mark.parametrize(
    ("learned", "frame", "tolerance", "verdict"),
    [
        ((0.98, 0.98), (0.976, 0.976), 0.005, "passed"),
        ((0.98, 0.98), (0.974, 0.974), 0.005, "failed"),
        # Differences -0.004 and -0.010: their mean has a standard error of 0.003.
        ((0.98, 0.98), (0.976, 0.970), 0.006, "failed"),
        ((0.98, 0.98), (0.978, 0.971), 0.007, "passed"),
        # Scatter excuses no more than a point.
        ((0.98, 0.98), (0.99, 0.94), 0.01, "failed"),
        ((0.98,), (0.976,), 0.005, "passed"),
    ],
)
def test_on_par_is_half_a_point_or_two_standard_errors_but_never_over_one_point(learned, frame, tolerance, verdict):
    claim = fixed_heads._setting_claims(results(learned, frame))[0]
    assert claim.id == f"{KEY}.simplex-frame"
    assert (claim.tolerance, claim.verdict) == (pytest.approx(tolerance), verdict)
    assert ("one seed" in claim.note) == (len(learned) == 1)


def test_means_farther_from_a_simplex_fail_their_claim():
    claims = fixed_heads._setting_claims(results((0.98,), (0.98,), **{"NC2 features": 0.21, "NC3": 0.29}))
    assert {claim.id: claim.verdict for claim in claims[1:]} == {f"{KEY}.NC2": "failed", f"{KEY}.NC3": "passed"}
    undefined = fixed_heads._setting_claims(results((0.98,), (0.98,), NC3=None))
    assert undefined[-1].verdict == "failed"


@pytest.mark.parametrize(
    "changes",
    [{"settings": ()}, {"seeds": ()}, {"heads": HEADS[1:]}, {"heads": HEADS[:1]}, {"heads": ()}],
)
def test_without_the_two_heads_that_are_compared_nothing_runs(changes):
    with pytest.raises(InputError, match=r"'learned' first and 'simplex frame' among them"):
        replace(TINY, **changes)


def test_every_preset_compares_heads_of_ten_classes():
    assert set(catalog.entry("fixed-heads").presets) <= set(fixed_heads.PRESETS)
    for config in fixed_heads.PRESETS.values():
        assert set(config.heads) <= set(HEADS)
        assert len({setting.name for setting in config.settings}) == len(config.settings)
