from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from PIL import Image

from tightframe.core.errors import InputError
from tightframe.data.location import data_file
from tightframe.data.pictured.reference_images import NAMES, reference_image


def test_a_name_leads_to_its_file(tmp_path):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "set12_09.png")
    np.testing.assert_array_equal(reference_image("barbara", root=tmp_path), pixels)
    with pytest.raises(InputError, match=r"set12_01\.png"):
        reference_image("cameraman", root=tmp_path)
    with pytest.raises(InputError, match="astronaut, barbara"):
        reference_image("lena", root=tmp_path)


def test_files_are_found_packed_or_not_and_in_order(tmp_path):
    (tmp_path / "b.csv").write_text("1")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"1"))
    assert data_file("a.csv", "b.csv.gz", root=tmp_path) == tmp_path / "b.csv"
    assert data_file("c.csv", "b.csv", root=str(tmp_path)) == tmp_path / "c.csv.gz"
    with pytest.raises(InputError, match=r"file a\.csv"):
        data_file("a.csv", root=tmp_path)


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
def test_the_shared_images_have_the_stated_sizes():
    shapes = {name: reference_image(name).shape for name in NAMES}
    assert shapes.pop("astronaut") == (512, 512, 3)
    assert shapes.pop("chelsea") == (300, 451, 3)
    assert {name for name, shape in shapes.items() if shape == (512, 512)} == {"barbara", "boat", "brick", "camera"}
    assert set(shapes.values()) == {(256, 256), (512, 512)}
    # Barbara's cloth is full of fine stripes, which the boat is not: energy of differences along rows and columns.
    fine = {name: (np.diff(np.diff(reference_image(name))) ** 2).mean() for name in ("barbara", "boat")}
    assert fine["barbara"] > 1.5 * fine["boat"]
