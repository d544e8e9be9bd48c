"""GAN inversion in JAX: real images to latent codes of a pretrained StyleGAN2, in batches of thousands.

Importing the package touches no file, no network and no device; everything is loaded where it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Generator": "lsap_jax.models.generator",
    "load_generator": "lsap_jax.models.generator_file",
    "load_encoder": "lsap_jax.models.network_file",
    "Inversion": "lsap_jax.runs.invert",
    "invert": "lsap_jax.runs.invert",
    "encode": "lsap_jax.runs.invert",
    "Refined": "lsap_jax.runs.refine",
    "refine": "lsap_jax.runs.refine",
    "evaluate": "lsap_jax.runs.evaluation",
    "render": "lsap_jax.rendering.render",
    "edit": "lsap_jax.editing.edit",
    "Refinement": "lsap_jax.rendering.refinement",
    "Space": "lsap_jax.spaces",
    "parse_space": "lsap_jax.spaces",
    "with_statistics": "lsap_jax.spaces.statistics",
    "keep_compiled": "lsap_jax.cache",
    "LsapError": "lsap_jax.errors",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'lsap_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
