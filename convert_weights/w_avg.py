"""The mean intermediate latent: where a file has it beside its networks, and an estimate for files without it."""

from collections.abc import Mapping

import numpy as np

from convert_weights.places import scopes
from convert_weights.tensors import Tensor

MEANS = ("latent_avg", "mean_latent", "w_avg", "dlatent_avg")  # names that tools give to the mean w beside a network

SAMPLES = 10_000
SEED = 0
BATCH = 2_000


def stored(tensors: Mapping[str, Tensor], place: str, own: str = "") -> tuple[str, Tensor | None]:
    """Name and value of the mean w: in what encloses the network at a place, else where the file has its only one.

    Args:
        own: name of the mean w among the network's own tensors, which comes first.
    """
    names = [place + own] * bool(own) + [scope + name for scope in scopes(place) for name in MEANS]
    elsewhere = [name for name in tensors if name.rpartition("/")[2] in MEANS and name not in names]
    names += elsewhere if len(elsewhere) == 1 else []  # GANInverter keeps it with its encoder
    name = next((name for name in names if name in tensors), "")
    return name, tensors.get(name)


def estimate_w_avg(arrays: dict[str, np.ndarray], config: dict) -> np.ndarray:
    """Mean of mapping(z) over 10,000 samples drawn with a fixed seed, [w_dim].

    The mapping network is that of StyleGAN2 (Karras et al. 2020, appendix B): second-moment normalisation, then
    fully-connected layers with weights scaled by lr/√fan_in and biases by lr, leaky ReLU of slope 0.2 and gain √2.
    Classes of a conditional generator are drawn uniformly.

    Args:
        arrays: canonical generator arrays, names starting with "mapping.".
        config: the generator's config.
    """
    rng = np.random.RandomState(SEED)
    total = np.zeros(config["w_dim"], np.float64)
    for start in range(0, SAMPLES, BATCH):
        count = min(BATCH, SAMPLES - start)
        x = _normalised(rng.standard_normal((count, config["z_dim"])).astype(np.float32))
        if config["c_dim"]:
            classes = rng.randint(config["c_dim"], size=count)
            weight, bias = arrays["mapping.embed.weight"], arrays["mapping.embed.bias"]
            y = weight.T[classes] / np.float32(np.sqrt(config["c_dim"])) + bias[None]
            x = np.concatenate([x, _normalised(y)], axis=1)
        total += _layers(x, arrays, config).sum(axis=0, dtype=np.float64)
    return (total / SAMPLES).astype(np.float32)


def _layers(x: np.ndarray, arrays: dict[str, np.ndarray], config: dict) -> np.ndarray:
    lr = np.float32(config["mapping_lr_multiplier"])
    for i in range(config["mapping_layers"]):
        weight, bias = arrays[f"mapping.fc{i}.weight"], arrays[f"mapping.fc{i}.bias"]
        x = x @ (weight.T * (lr / np.float32(np.sqrt(weight.shape[1])))) + bias[None] * lr
        x = np.maximum(x, np.float32(0.2) * x) * np.float32(np.sqrt(2))
    return x


def _normalised(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(np.square(x), axis=1, keepdims=True) + np.float32(1e-8))
