"""Read foreign checkpoint files as plain arrays, without torch or TensorFlow and without running any code in them.

    checkpoint = convert_weights.read("stylegan2-ffhq-config-f.pkl")
    G = checkpoint.parts["generator"]
    G.config, G.arrays["mapping.fc0.weight"]

Each container (`plain pickle`, `torch zip`, `torch legacy`, `npz`/`npy`) has a reader, and each dialect a row of
`dialects.DIALECTS`; `convert` writes the files that lsap_jax loads. The package needs only numpy.
"""

from convert_weights.checkpoint import Checkpoint, ConversionError, Part
from convert_weights.recognise import read

__all__ = ["Checkpoint", "ConversionError", "Part", "read"]
