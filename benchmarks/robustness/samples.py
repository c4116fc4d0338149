"""Whole files of every format that is read, small; real ones beside them where the data sets are there."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(0)
VALUES = RNG.standard_normal((7, 3))
PIXELS = RNG.integers(0, 256, (9, 12), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 2, 0, 1, 1])
_LARGEST = 200_000
# Whole, but not what is asked for: lists of several lengths and the like, as other programs write them.
FOREIGN = frozenset(("ragged", "gaps", "text", "time", "nested", "coded", "vectors", "whole"))


def real_files(*patterns: str) -> Iterable[Path]:
    """Small files of the real data sets, where TIGHTFRAME_DATA names their folder."""
    root = os.environ.get("TIGHTFRAME_DATA")
    found = [path for pattern in patterns for path in sorted(Path(root).glob(pattern))] if root else []
    return [path for path in found if path.stat().st_size <= _LARGEST]


def packed(folder: Path) -> None:
    """A gzipped copy of every file."""
    for path in sorted(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def real_ones(*patterns: str) -> Callable[[Path], None]:
    """Copies of real files."""

    def write(folder: Path) -> None:
        for path in real_files(*patterns):
            shutil.copy(path, folder / path.name)

    return write


def npy(folder: Path) -> None:
    """Arrays of several types and orders, bare and packed."""
    np.save(folder / "reals.npy", VALUES)
    np.save(folder / "order.npy", np.asfortranarray(VALUES.astype(">f4")))
    np.save(folder / "integers.npy", LABELS)
    packed(folder)


def npz(folder: Path) -> None:
    """Archives of arrays, stored and compressed."""
    np.savez(folder / "stored.npz", data=VALUES)
    np.savez_compressed(folder / "packed.npz", data=VALUES, rate=30000.0)
    packed(folder)


def mat(folder: Path) -> None:
    """MATLAB files of versions 4 and 5, with cells and structures beside numbers."""
    from scipy.io import savemat

    content = {"data": VALUES, "rate": 30000.0, "note": "text"}
    savemat(folder / "five.mat", content)
    savemat(folder / "packed.mat", content, do_compression=True)
    savemat(folder / "four.mat", {"data": VALUES, "rate": 30000.0}, format="4")
    nested = {"cell": np.array([VALUES, "x"], dtype=object), "deep": {"a": {"b": VALUES}}, "data": VALUES > 0}
    savemat(folder / "nested.mat", nested)
    real_ones("stm/realdata.mat")(folder)
    packed(folder)


def densities(folder: Path) -> None:
    """An array of three axes, in both versions that have them."""
    from scipy.io import savemat

    values = RNG.standard_normal((4, 5, 3))
    savemat(folder / "plain.mat", {"densities": values})
    savemat(folder / "packed.mat", {"densities": values}, do_compression=True)
    np.savez(folder / "densities.npz", densities=values)


def text_table(folder: Path) -> None:
    """Tables of numbers, with names and without, with gaps."""
    np.savetxt(folder / "plain.csv", VALUES, delimiter=",")
    np.savetxt(folder / "named.txt", VALUES, delimiter=",", header="a,b,c", comments="")
    (folder / "holes.csv").write_text("0,1,2\n1,,3\n4,5,\n", encoding="utf-8")
    packed(folder)


def recordings(folder: Path) -> None:
    """Two channels, interleaved, and with their rate."""
    volts = (1000 * RNG.standard_normal((2, 300))).astype(np.int16)
    volts.T.tofile(folder / "two.raw")
    packed(folder)
    np.save(folder / "two.npy", volts)
    np.savez(folder / "rated.npz", volts=volts, fs=15000)


def spikes(folder: Path) -> None:
    """Spike times and units."""
    from tightframe.data.recorded.spikes import Spikes, write_spikes

    found = Spikes(RNG.uniform(0, 3, 20), RNG.integers(0, 3, 20))
    write_spikes(folder / "spikes.csv", found)
    write_spikes(folder / "spikes.npz", found)


def images(folder: Path) -> None:
    """Grey, colour, palette, 16 bits and several pages."""
    from PIL import Image

    grey, colour = Image.fromarray(PIXELS), Image.fromarray(COLOURS)
    grey.save(folder / "grey.png")
    colour.save(folder / "colour.png")
    colour.quantize(8).save(folder / "palette.png")
    Image.fromarray(PIXELS.astype(np.uint16) * 200).save(folder / "deep.png")
    colour.save(folder / "lossy.jpg")
    grey.save(folder / "grey.bmp")
    real_ones("images/set12_01.png", "stm/wse2/*.jpg")(folder)


def movies(folder: Path) -> None:
    """Pages of one size, as they are and compressed."""
    from PIL import Image

    pages = [Image.fromarray(np.roll(PIXELS, step)) for step in range(3)]
    for name, method in (("plain", "raw"), ("lzw", "tiff_lzw"), ("deflate", "tiff_deflate")):
        pages[0].save(folder / f"{name}.tif", save_all=True, append_images=pages[1:], compression=method)
    Image.fromarray(PIXELS.astype(np.float32)).save(folder / "real.tiff")


def idx(folder: Path) -> None:
    """The files of a small MNIST, packed and not."""
    place = folder / "mnist"
    place.mkdir()
    for part, count in (("train", 6), ("t10k", 4)):
        for kind, content in (("images-idx3", RNG.integers(0, 256, (count, 5, 5))), ("labels-idx1", LABELS[:count])):
            shape = b"".join(length.to_bytes(4, "big") for length in content.shape)
            data = bytes((0, 0, 8, content.ndim)) + shape + content.astype(np.uint8).tobytes()
            data, end = (gzip.compress(data, mtime=0), ".gz") if part == "t10k" else (data, "")
            (place / f"{part}-{kind}-ubyte{end}").write_bytes(data)


def cifar_binary(folder: Path) -> None:
    """The six files of the binary version, two images each."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        rows = RNG.integers(0, 256, (2, 3073), dtype=np.uint8)
        rows[:, 0] %= 10
        rows.tofile(place / name)


def cifar_pickles(folder: Path) -> None:
    """The six pickles of the python version."""
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    for number, name in enumerate((*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")):
        content = {b"data": RNG.integers(0, 256, (2, 3072), dtype=np.uint8), b"labels": [number, 9 - number]}
        (place / name).write_bytes(pickle.dumps(content, protocol=(2, 0, 2, 4, 2, 2)[number]))


def cifar_jpegs(folder: Path) -> None:
    """Training and test images as jpegs with a common header."""
    from PIL import Image

    for part in ("train", "test"):
        payloads = []
        for _ in range(3):
            buffer = io.BytesIO()
            Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG")
            payloads.append(buffer.getvalue())
        joined = np.frombuffer(b"".join(payloads), dtype=np.uint8)
        lengths = np.array([len(payload) for payload in payloads])
        parts = {"header": np.zeros(0, np.uint8), "payload": joined, "length": lengths, "label": LABELS[:3]}
        np.savez(folder / f"cifar10_{part}_jpeg.npz", **parts)


def image_folder(folder: Path) -> None:
    """A folder for each of two classes."""
    from PIL import Image

    for name in ("cat", "dog"):
        (folder / "classes" / name).mkdir(parents=True)
        for number in range(2):
            pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "classes" / name / f"{number}.png")


def ratings(suffix: str) -> Callable[[Path], None]:
    """Triples of a user, an item and a rating."""

    def write(folder: Path) -> None:
        import pandas as pd

        rows = [(user, f"item {item}", (user + item) % 5 + 0.5) for user in range(4) for item in range(3)]
        table = pd.DataFrame(rows, columns=["user", "item", "rating"])
        if suffix == ".parquet":
            for method in ("snappy", "zstd", "none", "gzip"):
                table.to_parquet(folder / f"{method}.parquet", index=False, compression=method)
            foreign_tables(folder)
        else:
            table.to_csv(folder / f"ratings{suffix}", index=False, sep="\t" if suffix == ".tsv" else ",")
            packed(folder)

    return write


def drug_targets(folder: Path) -> None:
    """A small table of interactions, or the real one."""
    (folder / "dti").mkdir()
    real = next(iter(real_files("dti/nr_admat_dgc.txt.gz")), None)
    if real is not None:
        shutil.copy(real, folder / "dti" / real.name)
    else:
        (folder / "dti/nr_admat_dgc.txt").write_text("\tD1\tD2\nhsa1\t0\t1\nhsa2\t1\t0\n", encoding="utf-8")


def locust(folder: Path) -> None:
    """A recording and what is known about it."""
    (folder / "spikes").mkdir()
    about = {"dtype": "int16", "shape": [300, 4], "sample_rate": 15000.0}
    (folder / "spikes/locust_info.json").write_text(json.dumps(about), encoding="utf-8")
    RNG.integers(-100, 100, (300, 4)).astype(np.int16).tofile(folder / "spikes/locust_trial_01.raw")


def calcium(folder: Path) -> None:
    """Traces of two cells and their spikes."""
    (folder / "calcium").mkdir()
    for kind in ("calcium", "spikes"):
        with (folder / f"calcium/1.train.{kind}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("0", "1"), (0.1, 0.2), (1, 0), (2, ""), (3, "")])


def topographs(folder: Path) -> None:
    """An image and the boxes drawn in it."""
    from PIL import Image

    Image.fromarray(PIXELS).save(folder / "one.png")
    entry = {"size_px": [12, 9], "scan_nm": [10, 8], "bias_V": -1.4, "boxes": [[1, 2, 3, 4, "Se"]]}
    (folder / "annotations.json").write_text(json.dumps({"one.png": entry}), encoding="utf-8")


def noisy_labels(folder: Path) -> None:
    """Labels in the order of a data set."""
    np.savez(folder / "labels.npz", noisy=LABELS[::-1], clean_label=LABELS)
    np.savez_compressed(folder / "one.npz", noisy=LABELS[::-1])


def foreign_tables(folder: Path) -> None:
    """Parquet as others write it: lists of several lengths, gaps, text, times, nested lists, dictionaries."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "ragged": pa.array([[1.0, 2.0], [3.0], [4.0]]),
        "gaps": pa.array([[1.0, None], [3.0, 2.0], None]),
        "text": pa.array(["a", "b", None]),
        "time": pa.array([1, 2, 3], pa.timestamp("s")),
        "nested": pa.array([[[1.0]], [[2.0]], [[3.0]]]),
        "coded": pa.array(["a", "b", "a"]).dictionary_encode(),
        "vectors": pa.array([[1.0, 2.0], [3.0, 2.0], [4.0, 1.0]]),
        "whole": pa.array([0, 1, 1]),
    }
    for name, column in columns.items():
        table = {"features": column, "labels": columns["whole"], "label": columns["coded"]}
        pq.write_table(
            pa.table(table), folder / f"{name}.parquet", compression="zstd" if name == "vectors" else "snappy"
        )
