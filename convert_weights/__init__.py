"""Foreign checkpoint files to plain arrays, without torch or TensorFlow and without running anything inside them.

    checkpoint = convert_weights.read("stylegan2-ffhq-config-f.pkl")
    checkpoint.kind, checkpoint.config, checkpoint.arrays["generator/mapping.fc0.weight"]

One reader per container (`plain pickle`, `torch zip`, `torch legacy`, `npz`/`npy`), one table per dialect. Needs
numpy alone.
"""

from convert_weights.checkpoint import Checkpoint, ConversionError
from convert_weights.recognise import read

__all__ = ["Checkpoint", "ConversionError", "read"]
