"""A space by its name: which codes an image has, how they start, become images, are retracted, and move."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.models.classes import no_class
from lsap_jax.networks.synthesis import NoiseMode
from lsap_jax.spaces import feature, noise
from lsap_jax.spaces.decoded import Decoded
from lsap_jax.spaces.family import Family, mix
from lsap_jax.spaces.gaussian import Gaussian
from lsap_jax.spaces.hypersphere import Hypersphere
from lsap_jax.spaces.intermediate import Intermediate
from lsap_jax.spaces.sphere import rotate
from lsap_jax.spaces.style import Style

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator

Codes = dict[str, jax.Array]

DETAILS: dict[str, Family] = {
    "z": Hypersphere(per_layer=False),
    "z+": Hypersphere(per_layer=True),
    "w": Intermediate(per_layer=False),
    "w+": Intermediate(per_layer=True),
    "s": Style(),
    "p": Gaussian(whitened=False),
    "pn": Gaussian(whitened=True),
    "pn+": Gaussian(whitened=True, per_layer=True),
}
WITH_BASE = ("z", "z+", "w", "w+", "s")  # those that also exist as F spaces
NAMES = (*DETAILS, *(f"f/{name}" for name in WITH_BASE))
STARTS = ("auto", "random", "w_avg")


@dataclass(frozen=True, kw_only=True)
class Space:
    """A latent space: a detail code, in F spaces with a base code f, on request with noise maps, and with the class
    where a conditional generator is given one.

    Codes are a dict of arrays whose first axis is the batch: the detail code under "z", "w", "s" or "p", "f" [B, s, s,
    C], "noise" [B, Σ r²], and the labels "c" [B, c_dim], which nothing changes.
    """

    name: str
    detail: Family
    has_base: bool
    has_noise: bool = False
    base_resolution: int = 0
    noise_sides: tuple[int, ...] = ()
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    noise_mode: NoiseMode = "const"
    has_class: bool = False

    key = property(lambda self: self.detail.key)
    per_layer = property(lambda self: self.detail.per_layer)
    needs_statistics = property(lambda self: self.detail.needs_statistics)
    has_ws = property(lambda self: self.detail.has_ws)
    is_w = property(lambda self: self.detail.is_w)
    on_sphere = property(lambda self: self.detail.on_sphere)

    @property
    def groups(self) -> dict[str, str]:
        """Name of an array of a code -> "detail", "base", "noise" or "class", by which optimisers treat it."""
        others = {"f": ("base", self.has_base), "noise": ("noise", self.has_noise), "c": ("class", self.has_class)}
        return {self.key: "detail", **{key: group for key, (group, there) in others.items() if there}}

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of a code."""
        return tuple(self.groups)

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's detail code."""
        return self.detail.shape(G)

    def f_resolution(self, codes: Mapping[str, Any]) -> int:
        """Resolution of the base code among codes [B, ...]; 0 where the space has none."""
        return int(codes["f"].shape[1]) if self.has_base else 0

    def reached(self, G: "Generator", rows: Collection[int]) -> np.ndarray | None:
        """bool, broadcasts against one detail code: its part for these rows of ws. None where one code serves other
        rows, too: then no part of it belongs to these rows alone.
        """
        return self.detail.reached(G, rows)

    def shares_codes(self, other: "Space") -> bool:
        """Whether both have the same kind of detail code, apart from one code for all rows or one per row."""
        return _row(self.detail) == _row(other.detail)

    def in_w(self) -> "Space":
        """W (F/W for an F space) with the base code and the noise of this space."""
        names = ("base_resolution", "has_noise", "noise_sides", "noise_mode", "has_class")
        kept = {name: getattr(self, name) for name in names}
        return replace(parse_space("f/w" if self.has_base else "w"), **kept)

    def init(self, G: "Generator", rng: jax.Array, f0: jax.Array | None = None, source: str = "auto") -> Codes:
        """Starting codes of B images.

        Args:
            G: `given` the labels of the images where the codes have a class.
            rng: a key per image [B].
            f0: start of the base code [B, s, s, C], in F spaces.
            source: of the detail code: "random" from each image's own key, "w_avg" the mean w or the code nearest to
                it, "auto" as in the papers: random in z spaces, the mean w in all others.
        """
        code = self.detail.init(G, rng, self.detail.start if source == "auto" else source)
        codes = {self.key: code}
        if self.has_base:
            assert f0 is not None, "an F space starts at f0"
            codes["f"] = f0
        if self.has_noise:
            codes["noise"] = noise.init(G, rng)
        if self.has_class:
            codes["c"] = G.label  # type: ignore[assignment]
        return codes

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """The detail code whose ws, after truncation, are nearest to ws [B, num_ws, w_dim]."""
        if self.truncation_psi not in (0, 1):
            ws = G.truncate(ws, 1 / self.truncation_psi, self.truncation_cutoff)
        return self.detail.from_ws(G, ws)

    def decode(self, G: "Generator", codes: Mapping[str, jax.Array]) -> Decoded:
        """Codes [B, ...] as inputs of the synthesis."""
        c = codes.get("c")
        found: dict[str, Any] = {"ws": None, "c": c, **self.detail.decode(G.given(c), codes[self.key])}
        if found["ws"] is not None:
            found["ws"] = G.truncate(found["ws"], self.truncation_psi, self.truncation_cutoff)
            found["styles"] = G.styles(found["ws"])
        if self.has_base:
            found["f"] = codes["f"]
        if self.has_noise:
            found["noise"] = noise.decode(G, codes["noise"])
        return Decoded(**found, noise_mode=self.noise_mode)

    def retract(self, codes: Mapping[str, jax.Array]) -> Codes:
        """Codes with every z_i back on its sphere and every noise map at mean 0 and mean square 1; all else is free."""
        found = {**codes, self.key: self.detail.retract(codes[self.key])}
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
        return self._moved(codes, self.detail.move(codes[self.key], direction, strength), strength)

    def turn(self, codes: Mapping[str, jax.Array], direction: jax.Array, angle: jax.Array) -> Codes:
        """`move` along the great circle through every z_i and the direction, by an angle [B] in radians.

        Raises:
            LsapError: the space is not a z space.
        """
        if not self.on_sphere:
            raise LsapError(f"space {self.name} is flat: angles are for z spaces only; give strengths as steps")
        z = codes[self.key]
        towards = jnp.broadcast_to(direction, z.shape[1:])[None]
        return self._moved(codes, rotate(z, towards, angle.reshape(-1, *(1,) * (z.ndim - 1))), angle)

    def _moved(self, codes: Mapping[str, jax.Array], moved: jax.Array, strength: jax.Array) -> Codes:
        code = codes[self.key]
        still = (strength == 0).reshape(-1, *(1,) * (code.ndim - 1))
        return {**codes, self.key: jnp.where(still, code, moved)}

    def between(self, a: Mapping[str, jax.Array], b: Mapping[str, jax.Array], t: jax.Array) -> Codes:
        """Codes t [B] of the way from a to b: z along the great arcs (slerp), all else on straight lines."""
        found = {key: mix(a[key], b[key], t) for key in self.keys if key != self.key}
        if self.has_class:
            found["c"] = jnp.where(a["c"] == b["c"], a["c"], found["c"])  # rounding must not make another class
        return self.retract({**found, self.key: self.detail.between(a[self.key], b[self.key], t)})


def parse_space(
    name: str | Space,
    *,
    normalise: bool = False,
    eigenvalue_floor: float = 0.0,
    base_resolution: int = 0,
    noise_sides: tuple[int, ...] = (),
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: NoiseMode = "const",
) -> Space:
    """The space of a name: z, z+, w, w+, s, p, pn, pn+, f/z, f/z+, f/w, f/w+ or f/s. A Space is returned as it is.

    Args:
        normalise: StyleGAN's normalisation of z inside the graph (see `Hypersphere`).
        eigenvalue_floor: of P_N (see `gaussian.whiten`).
        base_resolution: of f; 0 until the generator is known (`space_from_config`).
        noise_sides: of the noise maps that belong to the code; none by default.
        truncation_psi: applied to ws whenever codes of this space become images; 1 changes nothing.
        truncation_cutoff: rows of ws that truncation reaches; all by default.
        noise_mode: "const", "none" or "random", whenever codes of this space become images.

    Raises:
        LsapError: no space has this name.
    """
    if isinstance(name, Space):
        return name
    text = name.lower().partition(":")[0]
    name_of_detail = text.removeprefix("f/")
    if name_of_detail not in (WITH_BASE if text.startswith("f/") else DETAILS):
        raise LsapError(f"unknown space {name!r}; choose one of {', '.join(NAMES)}")
    detail = DETAILS[name_of_detail]
    options: dict[str, Any] = {"normalise": normalise, "eigenvalue_floor": eigenvalue_floor}
    return Space(
        name=text,
        detail=replace(detail, **{f.name: options[f.name] for f in fields(detail) if f.name in options}),  # type: ignore
        has_base=text.startswith("f/"),
        has_noise=bool(noise_sides),
        base_resolution=base_resolution if text.startswith("f/") else 0,
        noise_sides=noise_sides,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        noise_mode=noise_mode,
    )


def _row(detail: Family) -> Family:
    """The family without the options that do not change the meaning of a row of its codes."""
    names = {field.name for field in fields(detail)} & {"per_layer", "normalise"}  # type: ignore[arg-type]
    return replace(detail, **dict.fromkeys(names, False))  # type: ignore[type-var]


def space_from_config(config: ConfigDict, G: "Generator") -> Space:
    """The space that an inversion's configuration asks for with this generator.

    Raises:
        LsapError: no such space, f cannot enter this generator there, an option that this space has no use for, or a z
            space of a conditional generator without a class (`Generator.for_classes`).
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
    if not space.has_ws and config.truncation.psi != 1:
        raise LsapError(f"truncation.psi={config.truncation.psi}: styles are not truncated; space {space.name} needs 1")
    if space.on_sphere and G.c_dim and G.labels is None:
        raise no_class(G.c_dim, f"space {space.name}")
    space = replace(space, has_class=G.labels is not None)
    if not space.has_base:
        return space
    return replace(space, base_resolution=feature.check_resolution(G, space.base_resolution))
