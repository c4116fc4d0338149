"""Noise on training labels, held-out samples, and the audit of both."""

from __future__ import annotations

import base64
import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset, ImageData
from tightframe.data.labelled.source import load
from tightframe.trials.audit import LabelAudit, audit
from tightframe.trials.labels import LabelledData, labelled_data
from tightframe.trials.suspects import believed_wrong, suspects


def read(noise: str = "none", *, validation: float = 0.0, seed: int = 0, limit: int | None = None, root=None):
    return labelled_data("digits", noise=noise, validation=validation, seed=seed, root=root, limit=limit, size=None)


def test_without_noise_nothing_changes():
    labelled = read()
    plain = load("digits")
    assert torch.equal(labelled.data.train.labels, plain.train.labels)
    assert not labelled.noisy
    assert not labelled.flipped.any()
    assert labelled.validation is None


def test_noise_is_on_training_and_validation_labels_and_not_on_test_ones():
    labelled, plain = read("symmetric:0.4", validation=0.2), load("digits")
    kept, held = labelled.data.train, labelled.validation
    assert len(kept) + len(held) == len(plain.train)
    assert len(held) == round(0.2 * len(plain.train))
    assert float(labelled.flipped.double().mean()) == pytest.approx(0.4, abs=0.02)
    assert torch.equal(labelled.data.test.labels, plain.test.labels)
    # The clean labels are those of the same images.
    order = {
        image.numpy().tobytes(): int(label) for image, label in zip(plain.train.images, plain.train.labels, strict=True)
    }
    assert [order[image.numpy().tobytes()] for image in kept.images] == labelled.clean.tolist()
    truth = torch.tensor([order[image.numpy().tobytes()] for image in held.images])
    assert float((truth != held.labels).double().mean()) == pytest.approx(0.4, abs=0.06)
    assert torch.equal(labelled.clean_train.labels, labelled.clean)


def test_labels_of_a_file_are_those_of_the_whole_set_before_a_limit(tmp_path):
    clean = load("digits").train.labels.numpy()
    noisy = (clean + 1) % 10
    np.savez(tmp_path / "labels.npz", clean_label=clean, human=noisy)
    for place in (f"file:{tmp_path / 'labels.npz'}:human", "file:labels.npz:human", "file:labels.npz"):
        labelled = read(place, limit=100, root=tmp_path)
        assert len(labelled.data.train) == 100
        assert torch.equal(labelled.data.train.labels, (labelled.clean + 1) % 10)
    with pytest.raises(InputError, match="validation"):
        read(validation=1.0)


def small(images: int = 6, channels: int = 1) -> LabelledData:
    pixels = torch.linspace(-1, 1, images * channels * 16).reshape(images, channels, 4, 4)
    given, clean = torch.tensor([0, 1, 0, 1, 0, 1])[:images], torch.tensor([0, 1, 1, 1, 0, 0])[:images]
    train = ArrayDataset(pixels, given)
    mean, std = (0.5,) * channels, (0.5,) * channels
    data = ImageData(train, train, ("left", "right"), (channels, 4, 4), "small", mean, std)
    return LabelledData(data, clean, None, True)


def test_the_network_judges_by_its_probability_of_the_label():
    labelled = small()

    class Knows(nn.Module):
        """Logits 2 for the clean label of the image."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            keys = labelled.data.train.images.flatten(1)
            found = torch.cdist(x.flatten(1), keys).argmin(1)
            return self.scale * nn.functional.one_hot(labelled.clean[found], 2).float()

    judged = audit(Knows(), labelled)
    right = 1 / (1 + np.exp(-2.0))
    assert judged.scores.tolist() == pytest.approx([1 - right, 1 - right, right, 1 - right, 1 - right, right])
    assert judged.suggested.tolist() == labelled.clean.tolist()
    assert judged.by == "1 - p(label)"
    assert sorted(judged.order[:2].tolist()) == [2, 5]
    assert judged.numbers() == {
        "noise AUC": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "labels right as given": pytest.approx(4 / 6),
        "labels right as corrected": 1.0,
    }


def test_the_estimate_of_the_loss_goes_first_also_inside_another_module():
    class Estimates(nn.Module):
        def noise_scores(self):
            return torch.tensor([0.9, 0.1, 0.2, 0.3, 0.4, 0.5])

        def corrected_labels(self):
            return torch.tensor([1, 1, 0, 1, 0, 1])

    judged = audit(nn.Linear(16, 2), small(), nn.ModuleList([Estimates()]))
    assert judged.by == "the loss's noise estimate"
    numbers = judged.numbers()
    # Wrong are 2 and 5, with scores 0.2 and 0.5, against 0.9, 0.1, 0.3, 0.4: 1 + 3 of 8 pairs in order.
    assert numbers["noise AUC"] == pytest.approx(4 / 8)
    assert (numbers["precision"], numbers["recall"]) == (0.0, 0.0)


def test_labels_are_judged_without_a_truth():
    """Nobody knows which labels of one's own data are wrong: no share of right ones is claimed."""
    labelled = replace(small(), clean=small().data.train.labels, noisy=False)
    judged = audit(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), labelled)
    assert judged.truth is None
    assert set(judged.numbers().values()) == {None}
    assert "before noise" not in suspects(judged, labelled.data)


def test_the_labels_believed_wrong_are_listed_with_their_files(tmp_path):
    for place in range(6):
        folder = tmp_path / ("left", "right")[place % 2]
        folder.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 40 * place).save(folder / f"{place}, a.png")
    data = load(f"folder:{tmp_path}")
    given = data.train.labels
    scores = torch.linspace(0, 1, len(given)).double()
    suggested = given.clone()
    suggested[[0, 2]] = 1 - given[[0, 2]]
    judged = LabelAudit(scores, given, suggested, "x", None)
    rows = list(csv.DictReader(io.StringIO(believed_wrong(judged, data))))
    assert [row["index"] for row in rows] == ["2", "0"]
    for row in rows:
        index = int(row["index"])
        assert Path(row["file"]).parent.name == row["label"] == data.classes[int(given[index])]
        pixel = Image.open(row["file"]).getpixel((0, 0)) / 255
        assert float(data.train[index][0][0, 0, 0]) == pytest.approx(2 * pixel - 1, abs=1e-6)
        assert row["suggested"] == data.classes[1 - int(given[index])]
        assert float(row["score"]) == float(scores[index])
    assert suspects(judged, data, most=1)["file"] == [data.train.name(len(given) - 1)]
    nothing = LabelAudit(scores, given, given, "x", None)
    assert believed_wrong(nothing, data) == "index,label,suggested,score\n"


def test_numbers_that_are_undefined_are_none_and_ties_count_half():
    labels = torch.zeros(4, dtype=torch.long)
    right = LabelAudit(torch.ones(4), labels, labels, "x", labels)
    assert right.numbers()["noise AUC"] is None
    assert right.numbers()["precision"] is None
    assert right.numbers()["recall"] is None
    wrong = LabelAudit(torch.ones(4), labels, labels, "x", torch.tensor([0, 0, 1, 1]))
    assert wrong.numbers()["noise AUC"] == 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_suspects_carry_their_images(channels):
    labelled = small(channels=channels)
    scores = torch.tensor([0.1, 0.2, 0.9, 0.3, 0.4, 0.8]).double()
    given = labelled.data.train.labels
    table = suspects(LabelAudit(scores, given, labelled.clean, "x", labelled.clean), labelled.data, most=3)
    assert table["index"] == [2, 5, 4]
    assert table["rank"] == [1, 2, 3]
    assert (table["label"][0], table["suggested"][0], table["before noise"][0]) == ("left", "right", "right")
    prefix = "data:image/png;base64,"
    assert all(cell.startswith(prefix) for cell in table["image"])
    image = Image.open(io.BytesIO(base64.b64decode(table["image"][0].removeprefix(prefix))))
    expected = (labelled.data.train.images[2] * 0.5 + 0.5).mul(255).round().byte().permute(1, 2, 0).squeeze()
    assert np.array_equal(np.asarray(image), expected.numpy())
