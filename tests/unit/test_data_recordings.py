from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from scipy.io import savemat

from tightframe.core.errors import AmbiguityError, InputError, UnsafeFileError
from tightframe.data.recorded.recordings import Recording, from_spikeinterface, locust_recording, read_recording

VALUES = np.random.default_rng(0).integers(-2000, 2000, (3, 50)).astype(np.int16)


@pytest.mark.parametrize("suffix", [".raw", ".bin", ".dat"])
def test_raw_files_interleave_channels_and_are_mapped(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    # Sample after sample, all channels of each: the file is the transpose, row by row.
    path.write_bytes(b"".join(VALUES[:, t].tobytes() for t in range(50)))
    recording = read_recording(path, 20_000, channels=3)
    np.testing.assert_array_equal(recording.values, VALUES)
    assert isinstance(recording.values.base, np.memmap)
    assert (recording.rate, recording.channels, recording.name) == (20_000.0, 3, path.name)
    assert recording.seconds == pytest.approx(50 / 20_000)


@pytest.mark.parametrize("dtype", [">i2", "uint16", "float32", "<f8"])
def test_types_and_byte_orders_of_raw_files(tmp_path, dtype):
    values = np.abs(VALUES).astype(dtype)
    path = tmp_path / "file.raw"
    path.write_bytes(np.ascontiguousarray(values.T).tobytes())
    np.testing.assert_array_equal(read_recording(path, 1e4, channels=3, dtype=dtype).values, values)


def test_a_gzipped_raw_file_is_read(tmp_path):
    path = tmp_path / "file.raw.gz"
    path.write_bytes(gzip.compress(np.ascontiguousarray(VALUES.T).tobytes(), mtime=0))
    np.testing.assert_array_equal(read_recording(path, 1e4, channels=3).values, VALUES)


def test_bytes_that_do_not_match_the_channels_are_refused(tmp_path):
    path = tmp_path / "file.raw"
    path.write_bytes(np.ascontiguousarray(VALUES.T).tobytes())
    # 300 bytes: 4 channels of 2 bytes leave 4 over; 1, 2, 3, 5, ... fit.
    with pytest.raises(InputError, match=r"multiple of 8 bytes.*300 bytes, 4 too many.*fit: 1, 2, 3, 5, 6, 10, "):
        read_recording(path, 1e4, channels=4)
    path.write_bytes(b"abc")
    with pytest.raises(InputError, match="fit: none"):
        read_recording(path, 1e4)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".mat", ".csv"])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_shorter_axis_counts_channels(tmp_path, kind, transposed):
    values = VALUES.T if transposed else VALUES
    path = tmp_path / f"file{kind}"
    if kind == ".npy":
        np.save(path, values)
    elif kind == ".npz":
        np.savez(path, v=values)
    elif kind == ".mat":
        savemat(path, {"v": values})
    else:
        np.savetxt(path, values, delimiter=",")
    np.testing.assert_array_equal(read_recording(path, 1e4).values, VALUES)


def test_a_number_of_channels_decides_the_axis(tmp_path):
    path = tmp_path / "file.npy"
    np.save(path, VALUES)
    assert read_recording(path, 1e4, channels=50).values.shape == (50, 3)
    with pytest.raises(InputError, match="axis of 4 channels"):
        read_recording(path, 1e4, channels=4)
    np.save(path, VALUES[0])
    assert read_recording(path, 1e4).values.shape == (1, 50)
    np.save(path, VALUES[None])
    with pytest.raises(InputError, match="two axes"):
        read_recording(path, 1e4)


def test_a_stored_rate_is_used_and_may_be_overruled(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, data=VALUES, Fs=12_500.0)
    assert read_recording(path).rate == 12_500
    assert read_recording(path, 1e4).rate == 1e4
    np.savez(path, data=VALUES)
    with pytest.raises(InputError, match=r"sampling rate.*--rate"):
        read_recording(path)


def test_ambiguous_dangerous_and_unknown_files_are_refused(tmp_path):
    np.savez(tmp_path / "file.npz", a=VALUES, b=VALUES)
    with pytest.raises(AmbiguityError, match="a 3x50, b 3x50"):
        read_recording(tmp_path / "file.npz", 1e4)
    assert read_recording(tmp_path / "file.npz", 1e4, key="b").channels == 3
    with pytest.raises(UnsafeFileError):
        read_recording(tmp_path / "file.pickle", 1e4)
    with pytest.raises(InputError, match=r"\.raw, \.bin"):
        read_recording(tmp_path / "file.wav", 1e4)
    (tmp_path / "file.raw").write_bytes(bytes(12))
    for options in ({"dtype": "nonsense"}, {"dtype": "complex64"}, {"channels": 0}, {"key": "a"}, {}):
        with pytest.raises(InputError):
            read_recording(tmp_path / "file.raw", 1e4 if options else None, **options)


@pytest.mark.parametrize(
    ("values", "rate"),
    [(VALUES[0], 1.0), (VALUES, 0.0), (VALUES, float("nan")), (VALUES + 1j, 1.0), (VALUES[:, :0], 1.0), ([[1]], 1.0)],
)
def test_what_is_no_recording_is_refused(values, rate):
    with pytest.raises(InputError):
        Recording(values, rate)


def test_an_excerpt_is_a_view():
    recording = Recording(VALUES, 100.0)
    part = recording.excerpt(0.1, 0.3)
    np.testing.assert_array_equal(part.values, VALUES[:, 10:30])
    assert part.values.base is recording.values or np.shares_memory(part.values, recording.values)
    for start, stop in ((0.3, 0.1), (-0.1, 0.2), (0.1, 0.6)):
        with pytest.raises(InputError, match="part of it"):
            recording.excerpt(start, stop)


def test_recordings_of_spikeinterface_are_read():
    spikeinterface = pytest.importorskip("spikeinterface")
    source = spikeinterface.NumpyRecording([VALUES.T, VALUES.T[:20]], sampling_frequency=12_000.0)
    recording = from_spikeinterface(source, segment=1)
    np.testing.assert_array_equal(recording.values, VALUES[:, :20])
    assert recording.rate == 12_000
    with pytest.raises(AmbiguityError, match="2 segments"):
        from_spikeinterface(source)
    with pytest.raises(InputError, match="below 2"):
        from_spikeinterface(source, segment=2)
    with pytest.raises(InputError, match="ndarray, without get_num_segments"):
        from_spikeinterface(VALUES)


def test_the_locust_recording_follows_its_description(tmp_path):
    folder = tmp_path / "spikes"
    folder.mkdir()
    (folder / "locust_info.json").write_text('{"sample_rate": 12e3, "shape": [-1, 3], "dtype": ">i2"}')
    content = np.ascontiguousarray(VALUES.T).astype(">i2").tobytes()
    (folder / "locust_trial_01.raw.gz").write_bytes(gzip.compress(content, mtime=0))
    recording = locust_recording(root=tmp_path)
    np.testing.assert_array_equal(recording.values, VALUES)
    assert recording.rate == 12_000
    for wrong in ("{", "[]", '{"sample_rate": 12e3}', '{"sample_rate": null, "shape": [1, 3], "dtype": "int16"}'):
        (folder / "locust_info.json").write_text(wrong)
        with pytest.raises(InputError, match=r"locust_info\.json"):
            locust_recording(root=tmp_path)


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
def test_the_locust_recording_has_the_stated_shape():
    recording = locust_recording()
    assert recording.rate == 15_000
    assert recording.values.shape == (4, 431_548)
    assert recording.seconds == pytest.approx(28.77, abs=0.01)
    # Twelve bits around an offset of half their range.
    assert recording.values.min() >= 0
    assert recording.values.max() < 4096
    np.testing.assert_allclose(np.median(recording.values, axis=1), 2056, atol=5)
