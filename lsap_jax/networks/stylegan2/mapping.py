"""StyleGAN2's mapping network: z to w."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.layers import FullyConnected, normalize_2nd_moment
from lsap_jax.networks.stylegan2.config import GeneratorConfig


class Mapping(nn.Module):
    """z (and label c) to w."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """[B, z_dim] (and [B, c_dim]) to [B, w_dim]. `normalize=False` trusts z to lie on the sphere already."""
        cfg = self.config
        self.param("w_avg", nn.initializers.zeros, (cfg.w_dim,))
        x = normalize_2nd_moment(z) if normalize else z
        if cfg.c_dim:
            if c is None:
                raise ValueError(f"this generator is conditional: pass labels c of shape [B, {cfg.c_dim}]")
            label = FullyConnected(cfg.embed_features, name="embed")(c)
            x = jnp.concatenate([x, normalize_2nd_moment(label)], axis=-1)
        for i in range(cfg.mapping_layers):
            width = cfg.w_dim if i == cfg.mapping_layers - 1 else cfg.layer_features
            x = FullyConnected(
                width, activation=cfg.activation, lr_multiplier=cfg.mapping_lr_multiplier, name=f"fc{i}"
            )(x)
        return x
