"""Training a base-code encoder E for any generator on its own samples, the paper's way (`lsap-jax train-basecode`).

f = E(x) must let the generator reproduce x from f and the true ws (arXiv 2307.08995 §3.2, with the loss and schedule of
BDInvert's code). The synthesis that starts at f lacks the RGB of the coarser blocks, so the f that is learned is not
the generator's own feature: it makes up for that RGB.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.models.basecode import BasecodeEncoder
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import attach, save
from lsap_jax.networks.basecode import BasecodeConfig, BasecodeNetwork, initial_variables
from lsap_jax.spaces.feature import check_resolution
from lsap_jax.training.encoder import image_terms, networks_of, save_joined, task_from_config, train_encoder
from lsap_jax.training.loop import Log, Logs, say


@dataclass(frozen=True, kw_only=True)
class BasecodeLosses:
    """Weights of the terms; the defaults are the paper's."""

    mse: float = 1.0
    perceptual: float = 10.0
    feature: float = 0.0

    def __call__(self, networks: Networks, code: jax.Array, ws: jax.Array, x: jax.Array) -> tuple[Logs, jax.Array]:
        """Losses of base codes [B, s, s, C] for samples x of ws, and their images; see `encoder.Losses`."""
        G = networks.generator
        y = G.synthesis(ws, f=code)
        logs = image_terms(networks, y, x)
        loss = self.mse * logs["mse"] + self.perceptual * logs.get("perceptual", 0.0)
        if self.feature:
            logs["feature"] = jnp.square(code - own_code(G, ws, code.shape[1])).mean()
            loss = loss + self.feature * logs["feature"]
        return {"loss": loss, **logs}, y


def own_code(G: Generator, ws: jax.Array, resolution: int) -> jax.Array:
    """The generator's own activation [B, s, s, C] of the layer that f replaces."""
    return G.features(ws)[1][G.config.entries[resolution].name]


def encoder_config(G: Generator, config: ConfigDict) -> BasecodeConfig:
    """Shape of the encoder for G; LsapError where no base code can enter there."""
    resolution = check_resolution(G, config.base_resolution)
    channels = G.config.entries[resolution].channels
    if len(config.widths) != 3:
        raise LsapError(f"widths={tuple(config.widths)}: a base-code encoder has three stages; give three widths")
    return BasecodeConfig(
        base_resolution=resolution, out_channels=channels, widths=tuple(config.widths), in_channels=G.img_channels
    )


def train_basecode(config: ConfigDict, generator: Generator, out: str | Path, log: Log = say) -> Path:
    """Train until `config.total_images` samples were seen, or go on from the newest checkpoint in `out`.

    Args:
        config: see `configs/basecode_toonhead64.py`.
        generator: of architecture skip; its weights do not change.
        out: folder for `checkpoints/`, `samples/`, `log.jsonl`, `basecode.safetensors` and `generator.safetensors`.
        log: takes a line of progress.

    Returns:
        The path of the generator with its encoder attached; `basecode.safetensors` beside it holds the encoder alone.

    Raises:
        LsapError: this generator cannot take a base code there, or perceptual weights cannot be read.
    """
    out, G = Path(out).resolve(), generator.without("basecode")
    shape = encoder_config(G, config)
    task = task_from_config(config, BasecodeNetwork(shape), BasecodeLosses(**config.loss))
    start = initial_variables(shape, jax.random.fold_in(jax.random.key(config.seed), 1))
    variables, seen = train_encoder(task, start, config, networks_of(G, config, log), out, log)
    E = BasecodeEncoder(config=shape, params=variables)
    path, made = save_joined(attach(G, E), "basecode", config, seen, out)
    save(out / "basecode.safetensors", E, made)
    return path
