from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tightframe.core.errors import InputError, UnsafeFileError
from tightframe.data.array_files import write_arrays
from tightframe.data.pictured.image_files import read_image, read_movie, write_image

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (6, 9), dtype=np.uint16)


@pytest.mark.parametrize("kind", ["png", "tif", "bmp"])
@pytest.mark.parametrize("values", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_images_come_back_unscaled(tmp_path, kind, values):
    Image.fromarray(values).save(tmp_path / f"image.{kind}")
    read = read_image(tmp_path / f"image.{kind}")
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, kind):
    Image.fromarray(DEEP).save(tmp_path / f"image.{kind}")
    np.testing.assert_array_equal(read_image(tmp_path / f"image.{kind}"), DEEP)


def test_floating_point_tiff_is_kept(tmp_path):
    values = RANDOM.standard_normal((5, 4)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "image.tiff")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tiff"), values)


def test_three_equal_channels_are_grey(tmp_path):
    Image.fromarray(np.repeat(GREY[..., None], 3, axis=2)).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), GREY)


def test_transparency_and_palettes_are_resolved(tmp_path):
    Image.fromarray(COLOUR).convert("RGBA").save(tmp_path / "clear.png")
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png"), COLOUR)
    palette = Image.fromarray(COLOUR).quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    Image.fromarray(GREY > 127).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_image(tmp_path / "mask.png"), (GREY > 127) * 255)


@pytest.mark.parametrize("values", [GREY, DEEP], ids=["8", "16"])
def test_a_tiff_of_pages_is_a_movie(tmp_path, values):
    frames = np.stack([values, values[::-1], values[:, ::-1]])
    pages = [Image.fromarray(frame) for frame in frames]
    pages[0].save(tmp_path / "movie.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_movie(tmp_path / "movie.tif"), frames)
    with pytest.raises(InputError, match=r"3 pages.*read_movie"):
        read_image(tmp_path / "movie.tif")


def test_a_movie_written_by_tifffile_is_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    frames = RANDOM.integers(0, 4096, (4, 6, 9), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "movie.tif", frames, photometric="minisblack")
    np.testing.assert_array_equal(read_movie(tmp_path / "movie.tif"), frames)


def test_movies_and_images_are_read_from_arrays(tmp_path):
    frames = RANDOM.standard_normal((4, 6, 9)).astype(np.float32)
    np.save(tmp_path / "movie.npy", frames)
    movie = read_movie(tmp_path / "movie.npy")
    assert isinstance(movie, np.memmap)
    np.testing.assert_array_equal(movie, frames)
    with pytest.raises(InputError, match=r"\(4, 6, 9\)"):
        read_image(tmp_path / "movie.npy")
    np.savez(tmp_path / "two.npz", a=frames[0], b=frames[1])
    np.testing.assert_array_equal(read_image(tmp_path / "two.npz", key="b"), frames[1])
    assert read_movie(tmp_path / "two.npz", key="a").shape == (1, 6, 9)


def test_frames_of_two_sizes_or_in_colour_are_refused(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[:4])]
    pages[0].save(tmp_path / "movie.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"\(4, 9\), \(6, 9\)"):
        read_movie(tmp_path / "movie.tif")
    Image.fromarray(COLOUR).save(tmp_path / "image.png")
    with pytest.raises(InputError, match="grey frames"):
        read_movie(tmp_path / "image.png")


def test_damaged_unknown_and_dangerous_files_are_refused(tmp_path):
    path = tmp_path / "image.png"
    with pytest.raises(InputError, match="No such file"):
        read_image(path)
    Image.fromarray(COLOUR).save(path)
    with pytest.raises(InputError, match="key"):
        read_image(path, key="a")
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(InputError, match=r"image\.png"):
        read_image(path)
    with pytest.raises(InputError, match=r"\.jpg"):
        read_image(tmp_path / "image.gif")
    with pytest.raises(UnsafeFileError):
        read_image(tmp_path / "image.pkl")


def test_written_images_come_back(tmp_path):
    path = write_image(tmp_path / "image.png", GREY, limits=(0, 255))
    np.testing.assert_array_equal(read_image(path), GREY)
    values = RANDOM.standard_normal((5, 4, 3))
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "image.npy", values)), values)


def test_written_images_are_stretched_and_clipped(tmp_path):
    values = np.array([[-2.0, 0.0, 2.0, 6.0]])
    read = read_image(write_image(tmp_path / "image.png", values))
    np.testing.assert_array_equal(read, [[0, np.rint(255 / 4), np.rint(255 / 2), 255]])
    read = read_image(write_image(tmp_path / "image.png", values, limits=(0, 2)))
    np.testing.assert_array_equal(read, [[0, 0, 255, 255]])
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "flat.png", np.ones((2, 2)))), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("name", "values", "limits"),
    [
        ("image.jpg", GREY, None),
        ("image.png", GREY[0], None),
        ("image.png", np.array([[np.nan]]), None),
        ("image.png", GREY, (1.0, 1.0)),
        ("image.png", np.array([["a"]]), None),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, values, limits):
    with pytest.raises(InputError):
        write_image(tmp_path / name, values, limits=limits)


def test_arrays_are_written_by_name(tmp_path):
    path = write_arrays(tmp_path / "result.npz", {"kernels": COLOUR, "maps": GREY.tolist()})
    with np.load(path, allow_pickle=False) as content:
        np.testing.assert_array_equal(content["kernels"], COLOUR)
        np.testing.assert_array_equal(content["maps"], GREY)
    with pytest.raises(InputError, match="npz"):
        write_arrays(tmp_path / "result.npy", {"a": GREY})
    with pytest.raises(InputError, match="a of type object"):
        write_arrays(tmp_path / "result.npz", {"a": np.array([None])})
