"""StyleGAN1's mapping network: z to w."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.layers import SQRT2, FullyConnected, normalize_2nd_moment
from lsap_jax.networks.stylegan1.config import GeneratorConfig


class Mapping(nn.Module):
    """z (and label c) to w. Unlike StyleGAN2's, √2 stands before the bias, and z and label are normalised together."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """[B, z_dim] (and [B, c_dim]) to w [B, w_dim], or to all rows at once, [B, num_ws · w_dim], if the config does
        not `repeat_w`. `normalize=False` trusts z to lie on the sphere already.
        """
        cfg = self.config
        self.param("w_avg", nn.initializers.zeros, (cfg.w_dim,))
        x = z
        if cfg.c_dim:
            if c is None:
                raise ValueError(f"this generator is conditional: pass labels c of shape [B, {cfg.c_dim}]")
            label = self.param("embed", nn.initializers.normal(1.0), (cfg.c_dim, cfg.embed_features))
            x = jnp.concatenate([x, jnp.matmul(c, label, precision=FULL)], axis=-1)
        x = normalize_2nd_moment(x) if normalize or cfg.c_dim else x
        made = cfg.w_dim if cfg.repeat_w else cfg.w_dim * cfg.num_ws
        for i in range(cfg.mapping_layers):
            width = made if i == cfg.mapping_layers - 1 else cfg.layer_features
            x = FullyConnected(
                width,
                activation="lrelu",
                lr_multiplier=cfg.mapping_lr_multiplier,
                weight_gain=SQRT2,
                gain=1.0,
                name=f"fc{i}",
            )(x)
        return x
