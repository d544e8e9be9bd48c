"""metrics.csv read back."""

import math

from lsap_jax.storage.metrics_table import read_metrics_table, write_table


def test_numbers_by_id_and_name(tmp_path):
    assert read_metrics_table(tmp_path) == {}
    write_table(tmp_path, b'id,mse,nscd\n"a,b",0.5,\nc,nan,1e-3\nd,x,2,3\n')
    found = read_metrics_table(tmp_path)
    assert found["a,b"] == {"mse": 0.5} and found["d"] == {"nscd": 2.0}
    assert math.isnan(found["c"]["mse"]) and found["c"]["nscd"] == 1e-3
