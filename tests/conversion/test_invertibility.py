"""SAM's invertibility network from the file that its project saves."""

import foreign_files as files
import jax
import numpy as np
import pytest

from convert_weights import ConversionError
from convert_weights.invertibility import network_shapes
from lsap_jax.models.network_file import load

CONFIG = {
    "in_channels": 3, "resolutions": [16, 64], "kernel": 7, "stem": 4, "pyramid": 4, "low": 3, "decoder": 5,
    "features": 6, "head": 2, "rates": [1, 6, 12, 18],
    "stages": [[2, 1, 1, [1]], [3, 1, 2, [1]], [2, 2, 2, [1]], [3, 3, 1, [2, 4, 8]]],
}  # fmt: skip


def foreign(prefix="", **changes):
    """The file's dictionaries: first layers of heads are transposed convolutions, [in, out, k, k]."""
    rng, root = np.random.default_rng(0), {"sd_base": {}}
    for name, shape in network_shapes(CONFIG).items():
        value = rng.standard_normal(shape, np.float32)
        value = np.abs(value) if name.endswith("running_var") else value
        if name.startswith("heads."):
            _, head, own = name.split(".", 2)
            value = value.transpose(1, 0, 2, 3) if value.ndim == 4 else value
            root.setdefault(head, {})[prefix + own] = value
        else:
            root["sd_base"][prefix + name] = value
    root["sd_base"][f"{prefix}backbone.bn1.num_batches_tracked"] = np.array(7)
    root["sd_base"].update(changes)
    return root


def written(path, root):
    path.write_bytes(
        files.torch_zip({k: {name: files.T(a) for name, a in own.items()} for k, own in root.items()} | {"epoch": 3})
    )
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
