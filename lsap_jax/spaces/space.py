"""A space by its name: which codes an image has, how they start, become images, are retracted, and move."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.spaces import feature, noise
from lsap_jax.spaces.extended import Extended, mix
from lsap_jax.spaces.gaussian import Gaussian
from lsap_jax.spaces.hypersphere import Hypersphere
from lsap_jax.spaces.sphere import rotate
from lsap_jax.spaces.style import Style

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator

Codes = dict[str, jax.Array]
Detail = Hypersphere | Extended | Style | Gaussian

DETAILS: dict[str, Detail] = {
    "z": Hypersphere(extended=False),
    "z+": Hypersphere(extended=True),
    "w": Extended(extended=False),
    "w+": Extended(extended=True),
    "s": Style(),
    "p": Gaussian(whitened=False),
    "pn": Gaussian(whitened=True),
    "pn+": Gaussian(whitened=True, extended=True),
}
WITH_BASE = ("z", "z+", "w", "w+", "s")
NAMES = (*DETAILS, *(f"f/{name}" for name in WITH_BASE))
STARTS = ("auto", "random", "w_avg")


@dataclass(frozen=True, kw_only=True)
class Space:
    """A latent space: a detail code, in F spaces with a base code f, on request with noise maps.

    Codes are a dict of arrays whose first axis is the batch: the detail code under "z", "w", "s" or "p", "f" [B, s, s,
    C], and "noise" [B, Σ r²].
    """

    name: str
    detail: Detail
    has_base: bool
    has_noise: bool = False
    base_resolution: int = 0
    noise_sides: tuple[int, ...] = ()
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    noise_mode: str = "const"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of a code."""
        return (self.detail.key, *(("f",) if self.has_base else ()), *(("noise",) if self.has_noise else ()))

    def init(self, G: "Generator", rng: jax.Array, f0: jax.Array | None = None, source: str = "auto") -> Codes:
        """Starting codes of B images.

        Args:
            rng: a key per image [B].
            f0: start of the base code [B, s, s, C], in F spaces.
            source: of the detail code: "random" from each image's own key, "w_avg" the mean w or what comes nearest,
                "auto" what the papers do: random in z spaces, the mean w in all others.
        """
        code = self.detail.init(G, rng, self.detail.start if source == "auto" else source)
        codes = {self.detail.key: code}
        if self.has_base:
            assert f0 is not None, "an F space starts at f0"
            codes["f"] = f0
        if self.has_noise:
            codes["noise"] = noise.init(G, rng)
        return codes

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """The detail code whose ws, after truncation, are nearest to ws [B, num_ws, w_dim]."""
        if self.truncation_psi not in (0, 1):
            ws = G.truncate(ws, 1 / self.truncation_psi, self.truncation_cutoff)
        return self.detail.from_ws(G, ws)

    def decode(self, G: "Generator", codes: Mapping[str, jax.Array]) -> dict[str, Any]:
        """Codes to the keyword arguments of `G.synthesis`: "styles" or "ws", and "f" and "noise" where there are."""
        inputs: dict[str, Any] = {"ws": None, **self.detail.decode(G, codes[self.detail.key])}
        if inputs["ws"] is not None:
            inputs["ws"] = G.truncate(inputs["ws"], self.truncation_psi, self.truncation_cutoff)
        inputs["noise_mode"] = self.noise_mode
        if self.has_base:
            inputs["f"] = codes["f"]
        if self.has_noise:
            inputs["noise"] = noise.decode(G, codes["noise"])
        return inputs

    def retract(self, codes: Mapping[str, jax.Array]) -> Codes:
        """Codes with every z_i back on its sphere and every noise map at mean 0 and mean square 1; all else is free."""
        found = {**codes, self.detail.key: self.detail.retract(codes[self.detail.key])}
        if self.has_noise:
            found["noise"] = noise.retract(codes["noise"], self.noise_sides)
        return found

    def move(self, codes: Mapping[str, jax.Array], direction: jax.Array, strength: jax.Array) -> Codes:
        """The detail code moved along a direction and retracted; the rest stays. Images of strength 0 keep their code
        bit for bit.

        Args:
            direction: one vector for all rows, or the shape of one image's code.
            strength: [B].
        """
        return self._moved(codes, self.detail.move(codes[self.detail.key], direction, strength), strength)

    def turn(self, codes: Mapping[str, jax.Array], direction: jax.Array, angle: jax.Array) -> Codes:
        """`move` along the great circle through every z_i and the direction, by an angle [B] in radians.

        Raises:
            LsapError: not a z space.
        """
        if not isinstance(self.detail, Hypersphere):
            raise LsapError(f"space {self.name} is flat: an angle is a strength of z spaces only; give a step")
        z = codes["z"]
        towards = jnp.broadcast_to(direction, z.shape[1:])[None]
        return self._moved(codes, rotate(z, towards, angle.reshape(-1, *(1,) * (z.ndim - 1))), angle)

    def _moved(self, codes: Mapping[str, jax.Array], moved: jax.Array, strength: jax.Array) -> Codes:
        code = codes[self.detail.key]
        still = (strength == 0).reshape(-1, *(1,) * (code.ndim - 1))
        return {**codes, self.detail.key: jnp.where(still, code, moved)}

    def between(self, a: Mapping[str, jax.Array], b: Mapping[str, jax.Array], t: jax.Array) -> Codes:
        """Codes t [B] of the way from a to b: z along the great arcs (slerp), all else on straight lines."""
        found = {key: mix(a[key], b[key], t) for key in self.keys if key != self.detail.key}
        return self.retract({**found, self.detail.key: self.detail.between(a[self.detail.key], b[self.detail.key], t)})


def parse_space(
    name: str | Space,
    *,
    normalise: bool = False,
    eigenvalue_floor: float = 0.0,
    base_resolution: int = 0,
    noise_sides: tuple[int, ...] = (),
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: str = "const",
) -> Space:
    """The space of a name: z, z+, w, w+, s, p, pn, pn+, f/z, f/z+, f/w, f/w+ or f/s. A Space is returned as it is.

    Args:
        normalise: StyleGAN's normalisation of z inside the graph (see `Hypersphere`).
        eigenvalue_floor: of P_N (see `gaussian.whiten`).
        base_resolution: of f; 0 until a generator decides (`space_from_config`).
        noise_sides: of the noise maps that belong to the code; none by default.
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
    options: dict[str, Any] = {"normalise": normalise, "eigenvalue_floor": eigenvalue_floor}
    return Space(
        name=text,
        detail=replace(detail, **{f.name: options[f.name] for f in fields(detail) if f.name in options}),  # type: ignore
        has_base=text.startswith("f/"),
        has_noise=bool(noise_sides),
        base_resolution=base_resolution,
        noise_sides=noise_sides,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        noise_mode=noise_mode,
    )


def space_from_config(config: ConfigDict, G: "Generator") -> Space:
    """The space that an inversion's configuration asks for with this generator.

    Raises:
        LsapError: no such space, f cannot enter this generator there, or an option that this space has no use for.
    """
    sides = tuple(G.config.noise_layers.values()) if config.noise_maps else ()
    if config.noise_maps and not sides:
        raise LsapError("noise_maps: this generator uses no noise; set it to false")
    space = parse_space(
        config.space,
        normalise=config.retraction == "normalise",
        eigenvalue_floor=config.eigenvalue_floor,
        base_resolution=config.base_resolution,
        noise_sides=sides,
        truncation_psi=config.truncation.psi,
        truncation_cutoff=None if config.truncation.cutoff < 0 else config.truncation.cutoff,
        noise_mode=config.noise_mode,
    )
    if isinstance(space.detail, Style) and config.truncation.psi != 1:
        raise LsapError(f"truncation.psi={config.truncation.psi}: styles are not truncated; space {space.name} needs 1")
    if not space.has_base:
        return space
    return replace(space, base_resolution=feature.check_resolution(G, space.base_resolution))
