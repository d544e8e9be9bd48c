"""The families of generators: a row each, with its configuration, mapping and synthesis network.

A family is a package of this folder. Its configuration is a `LayerTable`; its `Mapping` maps z (and c) to w, its
`Synthesis` maps ws to images and takes the arguments of `synthesis_inputs`.
"""

from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from lsap_jax.networks import stylegan1, stylegan2
from lsap_jax.networks.bounds import checked

GeneratorConfig = stylegan1.GeneratorConfig | stylegan2.GeneratorConfig
FAMILIES: dict[str, ModuleType] = {"stylegan1": stylegan1, "stylegan2": stylegan2}
_FIRST = "stylegan2"  # the family of files that name none


def family(config: GeneratorConfig) -> ModuleType:
    """The package of the family of this configuration."""
    return next(module for module in FAMILIES.values() if isinstance(config, module.GeneratorConfig))


def generator_config(header: Mapping[str, Any]) -> GeneratorConfig:
    """The configuration in a file's header, checked.

    Raises:
        TypeError, ValueError: an entry is missing, unknown or out of bounds; the family is unknown.
    """
    name = header.get("family", _FIRST)
    if name not in FAMILIES:
        raise ValueError(f"family is {str(name)[:60]!r}, it can be one of {', '.join(FAMILIES)}")
    own = {key: value for key, value in header.items() if key != "family" or name != _FIRST}
    return checked(FAMILIES[name].GeneratorConfig, own)  # type: ignore[no-any-return]


@partial(jax.jit, static_argnums=0)
def initial_params(config: GeneratorConfig, rng: jax.Array) -> dict[str, Any]:
    """Random params {"mapping": ..., "synthesis": ...} of a generator, as before training."""
    networks = family(config)
    mapping_rng, synthesis_rng = jax.random.split(rng)
    z = jnp.zeros((1, config.z_dim))
    c = jnp.zeros((1, config.c_dim)) if config.c_dim else None
    ws = jnp.zeros((1, config.num_ws, config.w_dim))
    return {
        "mapping": networks.Mapping(config).init(mapping_rng, z, c)["params"],
        "synthesis": networks.Synthesis(config).init(synthesis_rng, ws)["params"],
    }


def generator_shapes(config: GeneratorConfig) -> Mapping[str, Any]:
    """Params tree of a generator as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: initial_params(config, jax.random.key(0)))
