"""Tables of results as CSV."""

import csv
import io

import numpy as np

from lsap_jax.experiments.csv_table import csv_table


def test_floats_read_back_exactly_and_missing_cells_are_empty():
    rows = [["a,b", 0.1 + 0.2, np.float64(1e-17), 3], ["c", None, float("nan"), float("inf")]]
    data = csv_table(["name", "x", "y", "n"], rows)
    assert data.startswith(b"name,x,y,n\n") and data.endswith(b"\n")
    first, second = list(csv.reader(io.StringIO(data.decode())))[1:]
    assert (first[0], float(first[1]), float(first[2]), first[3]) == ("a,b", 0.1 + 0.2, 1e-17, "3")
    assert second == ["c", "", "", "inf"]
