"""Files of SAM's invertibility network as its project saves them, small."""

import foreign_files as files
import numpy as np

from convert_weights.invertibility import network_shapes

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


def packed(root):
    """The bytes of a file with these dictionaries."""
    return files.torch_zip({k: {name: files.T(a) for name, a in own.items()} for k, own in root.items()} | {"epoch": 3})
