"""SAM's invertibility network from the file that its project saves."""

import jax
import numpy as np
import pytest
from foreign_invertibility import foreign, packed

from convert_weights import ConversionError
from lsap_jax.models.network_file import load


def written(path, root):
    path.write_bytes(packed(root))
    return path


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("prefix", ["", "module."])
def test_sizes_are_read_off_the_tensors(tmp_path, prefix):
    root = foreign(prefix)
    network = load(written(tmp_path / "sam.pt", root), "invertibility")
    own = network.config
    assert own.latents == ("W+", "F4", "F8") and own.stages[3] == (3, 3, 1, (2, 4, 8)) and own.decoder == 5
    stored = root["F8"][f"{prefix}m.0.weight"]
    found = np.asarray(network.params["heads"]["F8"]["m"]["0"]["weight"])  # HWIO, a plain convolution
    np.testing.assert_array_equal(found, stored.transpose(2, 3, 0, 1)[::-1, ::-1])
    if not prefix:
        maps = jax.jit(lambda network, x: network.maps(x))(network, np.ones((1, 32, 48, 3), np.float32))
        assert maps.shape == (1, 32, 48, 3) and np.isfinite(maps).all()


def test_other_tensors_are_refused(tmp_path):
    missing, more, wrong = foreign(), foreign(**{"decoder.extra.0.bonus": np.ones(3, np.float32)}), foreign()
    del missing["W+"]["m.3.bias"]
    wrong["F4"]["m.3.weight"] = np.ones((3, 1, 1, 1), np.float32)
    for root, message in (
        (missing, r"missing heads\.W\+\.m\.3\.bias"),
        (more, "unknown tensors .*decoder.extra.0.bonus"),
        (wrong, "wrong shape: .*m.3.weight is"),
    ):
        with pytest.raises((ConversionError, ValueError), match=message):
            load(written(tmp_path / "sam.pt", root), "invertibility")
