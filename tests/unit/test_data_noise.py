from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tightframe.core.errors import AmbiguityError, InputError, UnsafeFileError
from tightframe.core.rng import generator
from tightframe.data.labelled.noise import flipped

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def labels(n=3_000, classes=10, seed=0):
    return torch.randint(classes, (n,), generator=generator(seed))


def counted(clean, noisy, classes):
    """Transition counts by a loop."""
    table = torch.zeros(classes, classes, dtype=torch.float64)
    for i, j in zip(clean.tolist(), noisy.tolist(), strict=True):
        table[i, j] += 1
    return table


@pytest.mark.parametrize(
    "spec", ["symmetric:0.4", "asymmetric:0.25", "asymmetric:0.3:1>7,7>1", "random", "symmetric:0"]
)
def test_what_is_returned_fits_together(spec):
    clean = labels()
    kept = clean.clone()
    noisy = flipped(clean, spec, classes=10, seed=3)
    assert torch.equal(clean, kept)
    assert torch.equal(noisy.clean, clean)
    assert noisy.labels.dtype == torch.int64
    assert torch.equal(noisy.flipped, noisy.labels != clean)
    table = counted(clean, noisy.labels, 10)
    torch.testing.assert_close(noisy.matrix, table / table.sum(1, keepdim=True), rtol=1e-15, atol=0)
    assert noisy.rate == pytest.approx(1 - table.diagonal().sum().item() / len(clean), rel=1e-12, abs=1e-12)
    again, other = (flipped(clean, spec, classes=10, seed=seed).labels for seed in (3, 4))
    assert torch.equal(again, noisy.labels)
    assert torch.equal(other, noisy.labels) == (spec == "symmetric:0")


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4, 1.0])
def test_symmetric_changes_exactly_that_share_of_every_class_evenly(rate):
    clean = labels(20_000)
    noisy = flipped(clean, f"symmetric:{rate}", classes=10)
    sizes = torch.bincount(clean)
    wrong = torch.bincount(clean[noisy.flipped], minlength=10)
    assert wrong.tolist() == [round(rate * n) for n in sizes.tolist()]
    table = counted(clean, noisy.labels, 10)
    others = table[~torch.eye(10, dtype=torch.bool)]
    # Each of the 90 cells has a binomial count of mean about 2000 rate / 9; six standard deviations allowed.
    mean = wrong.double().mean() / 9
    assert ((others - mean).abs() <= 6 * mean.sqrt() + 2).all()


def test_which_samples_are_hit_is_random():
    clean = torch.zeros(2_000, dtype=torch.long)
    hits = torch.stack([flipped(clean, "symmetric:0.3", classes=2, seed=seed).flipped for seed in range(50)])
    # Each sample is hit in 15 of 50 seeds on average, sd 3.24; 2000 samples, six sd.
    assert (hits.sum(0) - 15).abs().max() < 6 * 3.24


def test_asymmetric_of_cifar10_confuses_lookalikes():
    clean = labels()
    matrix = flipped(clean, "asymmetric:0.4", classes=10, names=CIFAR).matrix
    expected = torch.eye(10, dtype=torch.float64)
    pairs = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
    for source, target in pairs.items():
        i, j = CIFAR.index(source), CIFAR.index(target)
        expected[i, i], expected[i, j] = 0.6, 0.4
    # The number of wrong labels of a class of about 300 is rounded.
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1 / 400)


def test_asymmetric_of_other_classes_takes_the_next():
    matrix = flipped(torch.arange(30) % 3, "asymmetric:0.4", classes=3).matrix
    assert matrix.tolist() == [[0.6, 0.4, 0], [0, 0.6, 0.4], [0.4, 0, 0.6]]


def test_named_pairs():
    clean = torch.arange(40) % 4
    first = flipped(clean, "asymmetric:0.5:1>3, 2>0", classes=4)
    second = flipped(clean, "asymmetric:0.5:cow>eel,dog>ant", classes=4, names=("ant", "cow", "dog", "eel"))
    assert first.matrix.tolist() == [[1, 0, 0, 0], [0, 0.5, 0, 0.5], [0.5, 0, 0.5, 0], [0, 0, 0, 1]]
    assert torch.equal(first.labels, second.labels)


def test_random_labels_are_uniform_whatever_the_right_one():
    matrix = flipped(labels(20_000), "random", classes=10).matrix
    # About 2000 samples per row: a share of 0.1 has sd 0.0067; 100 cells, five sd.
    assert (matrix - 0.1).abs().max() < 5 * 0.0067


def test_a_class_without_samples_keeps_its_row():
    matrix = flipped(torch.zeros(10, dtype=torch.long), "symmetric:1", classes=3).matrix
    assert torch.equal(matrix[1:], torch.eye(3, dtype=torch.float64)[1:])


@pytest.fixture
def file(tmp_path):
    clean = labels(100)
    human = (clean + (torch.arange(100) < 9)) % 10
    path = tmp_path / "labels.npz"
    np.savez(
        path,
        clean_label=clean.numpy().astype(np.uint8),
        worse_label=human.numpy().astype(np.uint8),
        other_label=clean.numpy(),
        short=np.zeros(3, dtype=np.int64),
        scores=np.zeros(100),
    )
    return path, clean, human


def test_a_file_of_labels(file, tmp_path):
    path, clean, human = file
    noisy = flipped(clean, f"file:{path}:worse_label", classes=10)
    assert torch.equal(noisy.labels, human)
    assert noisy.rate == 0.09
    assert flipped(clean, f"file:{path}:clean_label", classes=10).rate == 0
    np.savez(tmp_path / "one.npz", only=human.numpy())
    assert torch.equal(flipped(clean, f"file:{tmp_path}/one.npz", classes=10).labels, human)


def test_a_file_that_does_not_fit(file, tmp_path):
    path, clean, _ = file
    with pytest.raises(AmbiguityError, match=r"got (worse_label|other_label) .*Name the array"):
        flipped(clean, f"file:{path}", classes=10)
    with pytest.raises(InputError, match="an array called 'worst'"):
        flipped(clean, f"file:{path}:worst", classes=10)
    for key in ("short", "scores"):
        with pytest.raises(InputError, match="one array of 100 integer labels"):
            flipped(clean, f"file:{path}:{key}", classes=10)
    with pytest.raises(InputError, match="one array of 50 integer labels"):
        flipped(clean[:50], f"file:{path}:worse_label", classes=10)
    with pytest.raises(InputError, match="in the order of the data set"):
        flipped(clean.roll(1), f"file:{path}:worse_label", classes=10)
    np.savez(tmp_path / "ten.npz", clean.numpy())
    with pytest.raises(InputError, match=r"labels lie in \[0, 3\)"):
        flipped(clean.clamp(max=2), f"file:{tmp_path}/ten.npz", classes=3)
    with pytest.raises(InputError, match="an npz file"):
        flipped(clean, f"file:{tmp_path}/absent.npz:x", classes=10)
    (tmp_path / "text.npz").write_text("labels")
    with pytest.raises(InputError, match=r"an npz file of labels; got .*text\.npz: another format\. Write"):
        flipped(clean, f"file:{tmp_path}/text.npz", classes=10)
    np.save(tmp_path / "bare.npy", clean.numpy())
    with pytest.raises(InputError, match="the bare array"):
        flipped(clean, f"file:{tmp_path}/bare.npy", classes=10)


def test_a_pickle_is_not_executed(tmp_path):
    touched = tmp_path / "touched"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (touched,))

    np.savez(tmp_path / "bomb.npz", labels=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="plain integer arrays"):
        flipped(labels(1), f"file:{tmp_path}/bomb.npz", classes=10)
    assert not touched.exists()


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "symmetric",
        "symmetric:",
        "symmetric:x",
        "symmetric:1.5",
        "symmetric:-0.1",
        "symmetric:nan",
        "asymmetric",
        "asymmetric:0.4:1",
        "asymmetric:0.4:1>12",
        "asymmetric:0.4:1>1",
        "asymmetric:0.4:1>2,1>3",
        "asymmetric:0.4:a>b",
        "random:1",
        "file",
        "file:",
        "human:0.4",
    ],
)
def test_bad_specs(spec):
    with pytest.raises(InputError):
        flipped(labels(), spec, classes=10)


def test_bad_labels():
    with pytest.raises(InputError, match=r"labels lie in \[0, 5\)"):
        flipped(labels(), "random", classes=5)
    with pytest.raises(InputError, match="integer tensor"):
        flipped(labels().float(), "random", classes=10)
    with pytest.raises(InputError, match="10 class names"):
        flipped(labels(), "random", classes=10, names=("a", "b"))
    with pytest.raises(InputError, match="seed is an integer"):
        flipped(labels(), "random", classes=10, seed=-1)
    with pytest.raises(InputError, match="classes is an integer"):
        flipped(torch.zeros(3, dtype=torch.long), "random", classes=1)


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
@pytest.mark.parametrize(
    ("key", "rate"),
    [
        ("aggre_label", 0.0901),
        ("random_label1", 0.1723),
        ("random_label2", 0.1812),
        ("random_label3", 0.1764),
        ("worse_label", 0.4021),
    ],
)
def test_human_labels_of_cifar10_have_their_published_noise_rates(key, rate):
    """Rates in per cent to two digits of the data set's paper: 9.03, 17.23, 18.12, 17.64, 40.21."""
    path = Path(os.environ["TIGHTFRAME_DATA"]) / "cifar10" / "cifar10n_labels.npz"
    with np.load(path, allow_pickle=False) as archive:
        clean = torch.from_numpy(archive["clean_label"].astype(np.int64))
    noisy = flipped(clean, f"file:{path}:{key}", classes=10, names=CIFAR)
    assert noisy.rate == pytest.approx(rate, abs=5e-4)
