"""GAN inversion in JAX: real images to latent codes of a pretrained StyleGAN2, in batches of thousands.

Importing the package touches no file, no network and no device; everything is loaded where it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not look into the table below
    from lsap_jax.cache import keep_compiled as keep_compiled
    from lsap_jax.editing.edit import edit as edit
    from lsap_jax.errors import LsapError as LsapError
    from lsap_jax.live.widget import studio as studio
    from lsap_jax.models.generator import Generator as Generator
    from lsap_jax.models.generator_file import load_generator as load_generator
    from lsap_jax.models.network_file import load_encoder as load_encoder
    from lsap_jax.rendering.refinement import Refinement as Refinement
    from lsap_jax.rendering.render import render as render
    from lsap_jax.runs.evaluation import evaluate as evaluate
    from lsap_jax.runs.invert import Inversion as Inversion
    from lsap_jax.runs.invert import encode as encode
    from lsap_jax.runs.invert import invert as invert
    from lsap_jax.runs.refine import Refined as Refined
    from lsap_jax.runs.refine import refine as refine
    from lsap_jax.spaces import Space as Space
    from lsap_jax.spaces import parse_space as parse_space
    from lsap_jax.spaces.statistics import with_statistics as with_statistics

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
    "studio": "lsap_jax.live.widget",
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
