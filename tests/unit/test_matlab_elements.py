"""Elements of MATLAB files: those that would end the process in scipy are refused first."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from tightframe.core.errors import InputError
from tightframe.data.array_files import read_array


def test_elements_of_a_matlab_file_that_do_not_exist_are_refused(tmp_path):
    # scipy ends the process on these types: whole files of version 5 are checked before it sees them.
    buffer = io.BytesIO()
    savemat(buffer, {"data": np.arange(21.0).reshape(7, 3)})
    whole = buffer.getvalue()
    place = whole.index(struct.pack("<II", 9, 168))
    path = tmp_path / "types.mat"
    for kind in (8, 10, 11, 19, 168, 2**15):
        path.write_bytes(whole[:place] + struct.pack("<I", kind) + whole[place + 4 :])
        with pytest.raises(InputError, match=rf"types\.mat; got an element of type {kind}"):
            read_array(path)
    path.write_bytes(whole[: place + 4] + struct.pack("<I", 2**31) + whole[place + 8 :])
    with pytest.raises(InputError, match=r"an element of 2147483648 bytes where 168 are left"):
        read_array(path)
    packed = zlib.compress(whole[128:place] + struct.pack("<I", 8) + whole[place + 4 :])
    path.write_bytes(whole[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(InputError, match="an element of type 8"):
        read_array(path)
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_array(path), np.arange(21.0).reshape(7, 3))
