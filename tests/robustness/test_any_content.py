"""Files of any content whatever: records, run directories, settings and tables are read or refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from door import perhaps_refused
from tightframe.cli.config import with_config
from tightframe.core.errors import InputError
from tightframe.data.array_files import read_array
from tightframe.data.pictured.image_files import read_image
from tightframe.data.ratings import read_triples
from tightframe.features.store import read_features
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory, load_records
from tightframe.training.checkpoint import load_state_dict

QUIETLY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
FIELDS = ("schema", "name", "title", "question", "config", "series", "tables", "panels", "claims", "seconds")


@QUIETLY
@given(values=st.dictionaries(st.sampled_from(FIELDS), JSON), keep=st.booleans())
def test_records_of_any_json_are_read_or_refused(tmp_path_factory, values, keep):
    place = tmp_path_factory.mktemp("record") / "record.json"
    whole = json.loads(Record(name="r", title="t", question="q").to_json()) if keep else {}
    place.write_text(json.dumps(whole | values), encoding="utf-8")
    with perhaps_refused("record.json"):
        (record,) = load_records([place])
        assert Record.from_json(record.to_json()).tables == record.tables


@QUIETLY
@given(config=st.dictionaries(st.text(max_size=5), JSON, max_size=3), other=st.dictionaries(st.text(max_size=5), JSON))
def test_a_run_directory_of_any_configuration_is_resumed_or_refused(tmp_path_factory, config, other):
    place = tmp_path_factory.mktemp("run")
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with perhaps_refused(place.name, "JSON values"):
        RunDirectory.create(place, config=other, resume=True)
    assert (place / "config.json").read_text(encoding="utf-8") == json.dumps(config)
    assert [path.name for path in place.iterdir()] == ["config.json"]


@QUIETLY
@given(text=st.text(max_size=200) | st.from_regex(r"\A([a-z_]{1,6} = [0-9\"'\[\]{}.,a-z-]{0,12}\n){0,4}\Z"))
def test_settings_of_any_text_become_flags_or_are_refused(tmp_path_factory, text):
    place = tmp_path_factory.mktemp("settings") / "run.toml"
    place.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with perhaps_refused("run.toml"):
        flags = with_config(["train", "--config", str(place)])
        assert flags[0] == "train"
        assert all(isinstance(flag, str) for flag in flags)


@QUIETLY
@given(rows=st.lists(st.lists(st.text(max_size=6) | st.floats().map(repr), min_size=1, max_size=5), max_size=6))
def test_tables_of_any_fields_are_read_or_refused(tmp_path_factory, rows):
    place = tmp_path_factory.mktemp("table") / "table.csv"
    place.write_bytes("\n".join(",".join(row) for row in rows).encode("utf-8", errors="surrogatepass"))
    for read in (read_array, read_triples):
        with perhaps_refused("table.csv"):
            found = read(place)
            values = found if isinstance(found, np.ndarray) else found.values
            assert values.size
            assert values.dtype.kind in "biuf"


@QUIETLY
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"PK\x03\x04", b"PAR1", b"\x93NUMPY\x01\x00", b"\x80\x02"]),
)
def test_any_bytes_are_refused_by_name_whatever_their_ending(tmp_path_factory, data, start):
    folder = tmp_path_factory.mktemp("bytes")
    for suffix in (".npy", ".npz", ".mat", ".png", ".pt", ".safetensors", ".parquet"):
        path = folder / f"any{suffix}"
        path.write_bytes(start + data)
        for read in (read_array, read_image, read_features, load_state_dict):
            with pytest.raises(InputError, match="any"):
                read(path)
    assert len(list(folder.iterdir())) == 7
