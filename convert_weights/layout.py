"""From canonical arrays (NVIDIA's or torch's names and layouts) to the layouts of converted files."""

import numpy as np


def leaf_layout(name: str, a: np.ndarray) -> np.ndarray:
    """A canonical array as the networks of lsap_jax hold it: convolutions OIHW to HWIO, dense weights [out, in] to
    [in, out], constants CHW to HWC.

    Args:
        name: canonical, e.g. `synthesis.b8.conv0.weight`.
    """
    if name.endswith("b4.fc.weight") and a.ndim == 2 and a.shape[1] % 16 == 0:
        # NVIDIA's discriminator flattens [C, 4, 4], that of lsap_jax [4, 4, C].
        return a.reshape(a.shape[0], -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, a.shape[0])
    if a.ndim == 4:
        return a.transpose(2, 3, 1, 0)
    if a.ndim == 3:
        return a.transpose(1, 2, 0)
    return a.T if a.ndim == 2 and name.endswith("weight") else a
