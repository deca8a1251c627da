"""What a table loses where texts count as missing."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import missing
from tests.laws import laws


@pytest.mark.smoke
def test_texts_that_count_as_missing():
  tsv = (
    "index\tA\tB\tanswer\n"
    "1\tNone\tNA\tA\n"
    "2\tnull\tN/A\tB\n"
    "3\tnone\tNaN\tA\n"
    '4\t" x"\t\tA\n'
  )
  read = missing.SCORERS["MMBench", "tsv_na_trap", "vlmevalkit"]
  gone = missing.MISSING
  assert read(tsv=tsv) == [
    {"index": 1, "A": gone, "B": gone, "answer": "A"},
    {"index": 2, "A": gone, "B": gone, "answer": "B"},
    {"index": 3, "A": "none", "B": gone, "answer": "A"},
    {"index": 4, "A": " x", "B": gone, "answer": "A"},
  ]


@pytest.mark.parametrize(
  "cells, read",
  [
    (["1", "2"], [1, 2]),
    (["1", "NA"], [1.0, missing.MISSING]),
    (["1", "2.5"], [1.0, 2.5]),
    (["1", "x"], ["1", "x"]),
    (["True", "FALSE", "NA"], [True, False, missing.MISSING]),
    (["TRUE", "true", "False"], [True, True, False]),
    (["false", "False"], [False, False]),
    (["True", "1"], ["True", "1"]),
    (["True", "tRUE"], ["True", "tRUE"]),
    (["007", "+3"], [7, 3]),
    (["1_0", "2"], ["1_0", "2"]),
    (["inf", "-Infinity"], [math.inf, -math.inf]),
  ],
)
def test_a_column_has_one_type(cells, read):
  tsv = "A\tB\n" + "".join(f"{cell}\tx\n" for cell in cells)
  found = [row["A"] for row in missing.read_tsv(tsv)]
  assert found == read and list(map(type, found)) == list(map(type, read))


def test_all_texts_of_pandas_and_no_other():
  assert missing.NA_TEXTS == set(
    "#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,N/A,NA,"
    "NULL,NaN,None,n/a,nan,null,".split(",")
  )


def test_lines_that_are_no_rows():
  assert missing.read_tsv("A\tB\n\n1\n") == [{"A": 1, "B": missing.MISSING}]
  with pytest.raises(ValueError, match="3 cells, not 2"):
    missing.read_tsv("A\tB\n1\t2\t3\n")
  with pytest.raises(ValueError, match="names"):
    missing.read_tsv("")


@laws(100)
@given(st.lists(st.sampled_from([*missing.NA_TEXTS, "x"]), min_size=1))
def test_every_such_text_is_lost(cells):
  tsv = "A\tB\n" + "".join(f"{cell}\ty\n" for cell in cells)
  found = [row["A"] for row in missing.read_tsv(tsv)]
  assert found == [c if c == "x" else missing.MISSING for c in cells]
