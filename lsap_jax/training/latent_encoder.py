"""Training a latent encoder E for any generator (`lsap-jax train-encoder`): domain-guided, as IDInvert's (Zhu et al.,
ECCV 2020), whose encoder is judged by the images that its codes make.

IDInvert trains on real images with MSE, a perceptual distance and an adversarial term. Here samples, whose ws are
known, replace the adversarial term and keep codes where the generator's own are; real images join them if they are
given.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.models.generator import Generator
from lsap_jax.models.latent_encoder import LatentEncoder
from lsap_jax.models.network_file import attach
from lsap_jax.networks.latent_encoder import LatentEncoderConfig, LatentEncoderNetwork, initial_variables
from lsap_jax.training.dataset import load_training_images
from lsap_jax.training.encoder import image_terms, networks_of, save_joined, task_from_config, train_encoder
from lsap_jax.training.loop import Log, Logs, say


@dataclass(frozen=True, kw_only=True)
class LatentLosses:
    """Weights of the terms; `latent` is of the mean square of ws - E(x) of samples."""

    mse: float = 1.0
    perceptual: float = 1.0
    latent: float = 1.0

    def __call__(self, networks: Networks, code: jax.Array, ws: jax.Array, x: jax.Array) -> tuple[Logs, jax.Array]:
        """Losses of codes [B, num_ws, w_dim] for images x, the first of them samples of ws; see `encoder.Losses`."""
        y = networks.generator.synthesis(code)
        logs = {"latent": jnp.square(code[: len(ws)] - ws).mean()}
        loss = self.latent * logs["latent"]
        if self.mse or self.perceptual:  # else nothing reads y, and the synthesis is left out of the program
            logs |= image_terms(networks, y, x)
            loss = loss + self.mse * logs["mse"] + self.perceptual * logs.get("perceptual", 0.0)
        return {"loss": loss, **logs}, y


def encoder_config(G: Generator, config: ConfigDict) -> LatentEncoderConfig:
    """Shape of the encoder for G.

    Raises:
        LsapError: the encoder would see images larger than G makes.
    """
    shape = LatentEncoderConfig(num_ws=G.num_ws, w_dim=G.w_dim, widths=tuple(config.widths), in_channels=G.img_channels)
    if not config.widths or shape.input_resolution > G.img_resolution:
        raise LsapError(
            f"widths={tuple(config.widths)}: give at least one width and at most {G.img_resolution.bit_length() - 2} "
            f"for images of {G.img_resolution} px; n widths take images of 4 · 2^(n - 1) px"
        )
    return shape


def train_latent_encoder(config: ConfigDict, generator: Generator, out: str | Path, log: Log = say) -> Path:
    """Train until `config.total_images` samples were seen, or go on from the newest checkpoint in `out`.

    Args:
        config: see `configs/encoder_toonhead64.py`.
        generator: its weights do not change. Where it has an encoder of the same shape, that one is trained on.
        out: folder for `checkpoints/`, `samples/`, `log.jsonl` and `generator.safetensors`.
        log: takes a line of progress.

    Returns:
        The path of the generator with its encoder attached.

    Raises:
        LsapError: encoder and generator do not fit, or images or perceptual weights cannot be read.
    """
    out, G = Path(out).resolve(), generator.without("encoder")
    shape = encoder_config(G, config)
    task = task_from_config(config, LatentEncoderNetwork(shape), LatentLosses(**config.loss))
    images = None
    if config.data:
        images, _ = load_training_images(
            config.data, config.extra_data, config.heldout, G.img_resolution, G.img_channels
        )
    own = generator.parts.get(LatentEncoder.kind)
    if own is not None and own.config == shape:
        start = own.params
        log("going on with the generator's own encoder")
    else:
        start = initial_variables(shape, jax.random.fold_in(jax.random.key(config.seed), 1), G.w_avg)
    variables, seen = train_encoder(task, start, config, networks_of(G, config, log), out, log, images)
    E = LatentEncoder(config=shape, params=variables)
    return save_joined(attach(G, E), "encoder", config, seen, out)[0]
