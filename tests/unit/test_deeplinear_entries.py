"""What observed entries are read from, and what is refused because it may mean two things."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.observations import observe

MATRIX = np.array([[1.0, np.nan, 3.0, 4.0], [np.nan, 5.0, np.nan, 6.0]])
ROWS, COLUMNS, VALUES = [0, 0, 0, 1, 1], [0, 2, 3, 1, 3], [1.0, 3.0, 4.0, 5.0, 6.0]


def read(X, **options):
    found = observe(X, **options)
    return found.rows.tolist(), found.columns.tolist(), found.values.tolist(), found.shape


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame(MATRIX),
        pd.DataFrame(MATRIX).convert_dtypes(),  # integers with pd.NA
        np.ma.array(np.nan_to_num(MATRIX, nan=9.0), mask=np.isnan(MATRIX)),
        np.ma.array(np.nan_to_num(MATRIX, nan=9.0).astype(int), mask=np.isnan(MATRIX)),
        MATRIX.tolist(),
        MATRIX.astype(">f8"),
        MATRIX.astype(np.longdouble),
        MATRIX.astype(np.float16),
        torch.tensor(MATRIX, requires_grad=True),
    ],
    ids=["table", "nullable", "masked", "masked integers", "lists", "big-endian", "long", "half", "gradient"],
)
def test_a_matrix_in_any_form(X):
    assert read(X) == (ROWS, COLUMNS, VALUES, (2, 4))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int32])
def test_places_of_any_kind_of_integer(kind):
    triple = (np.array(ROWS, dtype=kind), np.array(COLUMNS, dtype=kind), np.array(VALUES))
    assert read(triple, shape=(2, 4)) == (ROWS, COLUMNS, VALUES, (2, 4))
    tensors = (*(torch.from_numpy(part) for part in triple[:2]), torch.tensor(VALUES).double())
    assert read(tensors, shape=np.array([2, 4])) == (ROWS, COLUMNS, VALUES, (2, 4))
    table = pd.DataFrame({"row": triple[0], "column": triple[1], "value": VALUES}, index=list("abcde"))
    assert read(tuple(table[name] for name in table)) == (ROWS, COLUMNS, VALUES, (2, 4))
    model = DeepMatrixCompletion().fit(triple, shape=(2, 4))
    assert model.predict(triple[0], triple[1]).shape == (5,)


def test_single_precision_of_a_table_stays():
    assert observe(pd.DataFrame(MATRIX.astype(np.float32))).values.dtype == torch.float32
    mixed = pd.DataFrame(MATRIX).astype({0: np.float32})
    assert observe(mixed).values.dtype == torch.float64


def test_three_lines_are_not_guessed_at():
    triple = [np.array(ROWS), np.array(COLUMNS), np.array(VALUES)]
    with pytest.raises(InputError, match=r"a list of three arrays\. Pass a triple as a tuple"):
        observe(triple)
    table = pd.DataFrame({"user": ROWS, "item": COLUMNS, "rating": VALUES})
    with pytest.raises(InputError, match=r"three full columns, user, item, rating\. Pass a triple"):
        observe(table)
    # Rows of numbers are a matrix, and so is an array, or a table of three columns in which something is missing.
    assert observe([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).shape == (3, 2)
    assert observe(np.ones((4, 3))).shape == (4, 3)
    assert observe(table.where(table != 4.0)).shape == (5, 3)


@pytest.mark.parametrize(
    ("X", "options", "text"),
    [
        ([[1.0, 2.0], [3.0]], {}, "rows of one length"),
        (None, {}, "numbers; got dtype object"),
        ("ratings.csv", {}, "numbers; got dtype"),
        (pd.DataFrame({"a": ["x"], "b": [1.0]}), {}, "a table of numbers; got columns of"),
        (torch.ones(2, 2, dtype=torch.complex64), {}, "numbers; got dtype torch.complex64"),
        (([True, False], [False, True], [1.0, 2.0]), {}, "integer rows and columns"),
        ((ROWS, COLUMNS, VALUES), {"shape": 5}, "a shape of two integers"),
        ((ROWS, COLUMNS, VALUES), {"shape": (5,)}, "a shape of two integers"),
        ((ROWS, COLUMNS, VALUES), {"shape": (5.0, 5.0)}, "a shape of two integers"),
    ],
)
def test_what_holds_no_entries_is_refused(X, options, text):
    with pytest.raises(InputError, match=text):
        observe(X, **options)


def test_no_places_give_no_values():
    model = DeepMatrixCompletion().fit(MATRIX)
    assert model.predict([], []).shape == (0,)
    assert model.predict(0, 1).shape == (1,)
    assert model.recommend([], top=2)[0].shape == (0, 2)
    with pytest.raises(InputError, match="numbers; got dtype"):
        model.predict(["0"], ["1"])
