"""A space by its name: which codes an image has, how they start, become images, return to the sphere, and move."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.spaces import feature
from lsap_jax.spaces.hypersphere import Hypersphere

if TYPE_CHECKING:
    from lsap_jax.generator import Generator

Codes = dict[str, jax.Array]

DETAILS = {"z": Hypersphere(extended=False), "z+": Hypersphere(extended=True)}
NAMES = (*DETAILS, *(f"f/{name}" for name in DETAILS))


@dataclass(frozen=True, kw_only=True)
class Space:
    """A latent space: detail codes, with a base code f before them in F spaces.

    Codes are a dict of arrays whose first axis is the batch: "z" [B, z_dim] or [B, num_ws, z_dim], "f" [B, s, s, C].
    """

    name: str
    detail: Hypersphere
    has_base: bool
    base_resolution: int = 0
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    noise_mode: str = "const"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of a code."""
        return (self.detail.key, "f") if self.has_base else (self.detail.key,)

    def init(self, G: "Generator", rng: jax.Array, f0: jax.Array | None = None) -> Codes:
        """Starting codes of B images: random on the sphere by each image's own key [B]; f starts at f0 [B, s, s, C]."""
        codes = {self.detail.key: self.detail.init(G, rng)}
        if self.has_base:
            assert f0 is not None, "an F space starts at f0"
            codes["f"] = f0
        return codes

    def decode(self, G: "Generator", codes: Mapping[str, jax.Array]) -> dict[str, Any]:
        """Codes to the keyword arguments of `G.synthesis`."""
        ws = self.detail.decode(G, codes[self.detail.key])
        ws = G.truncate(ws, self.truncation_psi, self.truncation_cutoff)
        inputs: dict[str, Any] = {"ws": ws, "noise_mode": self.noise_mode}
        return {**inputs, "f": codes["f"]} if self.has_base else inputs

    def retract(self, codes: Mapping[str, jax.Array]) -> Codes:
        """Codes with every z_i back on its sphere; f is free."""
        return {**codes, self.detail.key: self.detail.retract(codes[self.detail.key])}

    def move(self, codes: Mapping[str, jax.Array], direction: jax.Array, strength: jax.Array) -> Codes:
        """The detail code moved along a direction and retracted; f stays. Images of strength 0 keep their code bit
        for bit.

        Args:
            direction: [z_dim] for all rows, or the shape of one image's code.
            strength: [B].
        """
        code = codes[self.detail.key]
        moved = self.detail.move(code, direction, strength)
        still = (strength == 0).reshape(-1, *(1,) * (code.ndim - 1))
        return {**codes, self.detail.key: jnp.where(still, code, moved)}


def parse_space(
    name: str | Space,
    *,
    normalise: bool = False,
    base_resolution: int = 0,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: str = "const",
) -> Space:
    """The space of a name: z, z+, f/z or f/z+. A Space is returned as it is.

    Args:
        normalise: StyleGAN's normalisation of z inside the graph (see `Hypersphere`).
        base_resolution: of f; 0 until a generator decides (`space_from_config`).
        truncation_psi, truncation_cutoff: applied to ws whenever codes of this space become images.

    Raises:
        LsapError: there is no space of this name.
    """
    if isinstance(name, Space):
        return name
    text = name.lower().partition(":")[0]
    if text not in NAMES:
        raise LsapError(f"unknown space {name!r}; there are {', '.join(NAMES)}")
    detail = DETAILS[text.removeprefix("f/")]
    return Space(
        name=text,
        detail=Hypersphere(extended=detail.extended, normalise=normalise),
        has_base=text.startswith("f/"),
        base_resolution=base_resolution,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        noise_mode=noise_mode,
    )


def space_from_config(config: ConfigDict, G: "Generator") -> Space:
    """The space that an inversion's configuration asks for with this generator.

    Raises:
        LsapError: no such space, or f cannot enter this generator there.
    """
    space = parse_space(
        config.space,
        normalise=config.retraction == "normalise",
        base_resolution=config.base_resolution,
        truncation_psi=config.truncation.psi,
        truncation_cutoff=None if config.truncation.cutoff < 0 else config.truncation.cutoff,
        noise_mode=config.noise_mode,
    )
    if not space.has_base:
        return space
    return replace(space, base_resolution=feature.check_resolution(G, space.base_resolution))
