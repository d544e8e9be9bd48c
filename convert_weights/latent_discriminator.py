"""The latent discriminator of e4e's training, which judges codes w: linear layers, `mlp.0` to `mlp.6`."""

from collections.abc import Mapping

from convert_weights.checkpoint import Part
from convert_weights.match import Rule, fill, match
from convert_weights.stylegan2 import dim
from convert_weights.tensors import Tensor
from convert_weights.trunks import Shapes

KIND = "latent_discriminator"
LAST = 6  # index of the last of four layers; every other index is an activation
RULES: list[Rule] = [(r"mlp\.\d{1,3}\.(weight|bias)", lambda m: m[0], "")]


def critic_shapes(config: Mapping[str, int]) -> Shapes:
    """Every tensor of the discriminator with this config: name -> shape."""
    shapes: Shapes = {}
    w = config["w_dim"]
    for k in range(0, LAST + 1, 2):
        width = w if k < LAST else 1
        shapes |= {f"mlp.{k}.weight": (width, w), f"mlp.{k}.bias": (width,)}
    return shapes


def critic(tensors: Mapping[str, Tensor], what: str) -> Part:
    """The discriminator's state dict.

    Raises:
        Unfit: where it has other layers, or tensors of other shapes.
    """
    found, _ = match(tensors, RULES, what)
    config = {"w_dim": dim({name: one.shape for name, one in found.items()}, "mlp.0.weight", 1)}
    return Part(kind=KIND, config=config, arrays=fill(found, critic_shapes(config), what))
