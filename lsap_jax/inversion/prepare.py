"""Where a batch begins: starting codes and targets, computed on the devices once per batch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lsap_jax.inversion import loop
from lsap_jax.inversion.objective import Targets
from lsap_jax.models.generator import Generator
from lsap_jax.models.perceptual import Perceptual
from lsap_jax.networks.image_by_image import in_groups
from lsap_jax.spaces import feature, parse_space


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where codes begin: `f` see `feature.uses_encoder`, `detail` see `Space.init`, `w_steps` in W before."""

    f: str
    detail: str
    w_steps: int


def prepare(
    problem: loop.Problem,
    start: Start,
    G: Generator,
    perceptual: Perceptual | None,
    inputs: Mapping[str, Any],
    seed: jax.Array,
    live: jax.Array,
) -> tuple[loop.State, Targets]:
    """Starting state and targets of the images of a batch where `live` [B] holds; see `Inverter._inputs`."""
    rng = image_rng(seed, inputs["words"])
    begin = partial(_begin, problem, start, G, perceptual)
    state, targets = in_groups(problem.together, live, begin, inputs, rng)
    return state, targets.replace(rng=rng if problem.latent_noise.scale > 0 else None)


def _begin(
    problem: loop.Problem,
    start: Start,
    G: Generator,
    perceptual: Perceptual | None,
    inputs: Mapping[str, Any],
    rng: jax.Array,
) -> tuple[loop.State, Targets]:
    """Starting state and targets, but for the keys of latent noise, of images [B] with a key each."""
    images, space = inputs["images"], problem.space
    f0 = None
    if space.has_base:
        f0 = feature.start(G, inputs.get("basecode_images", images), space.base_resolution, start.f)
    features = None
    if perceptual is not None:
        features = perceptual.features(inputs.get("perceptual_images", images))
    targets = Targets(images=images, features=features, f0=f0, mask=inputs.get("mask"))
    if start.w_steps:
        codes = from_w(problem, start.w_steps, G, perceptual, rng, targets)
    elif start.detail == "encoder":
        assert G.encoder is not None, "checked beforehand"
        codes = space.init(G, rng, f0) | {space.detail.key: space.from_ws(G, G.encoder(inputs["encoder_images"]))}
    else:
        codes = space.init(G, rng, f0, start.detail)
    if "start" in inputs:
        given = space.retract(inputs["start"])
        codes = {key: loop.select(inputs["has_start"][key], given[key], codes[key]) for key in codes}
    return loop.initial_state(problem, codes), targets


def from_w(
    problem: loop.Problem, steps: int, G: Generator, perceptual: Perceptual | None, rng: jax.Array, targets: Targets
) -> dict[str, jax.Array]:
    """Codes after some steps in W (F/W for an F space) from the mean w; other parts of the code as they became."""
    space = problem.space
    name = "f/w" if space.has_base else "w"
    easy = replace(parse_space(name), **{k: getattr(space, k) for k in ("base_resolution", "has_noise", "noise_sides")})
    first = replace(problem, space=easy, retraction="project", keep_best=True, together=0)
    state = loop.initial_state(first, easy.init(G, rng, targets.f0))
    noisy = targets.replace(rng=rng if problem.latent_noise.scale > 0 else None)
    count, live = jnp.asarray(steps, jnp.int32), jnp.ones(len(rng), bool)
    state, _ = loop.chunk(first, steps + 1, G, perceptual, state, noisy, count, live)
    w = easy.decode(G, state.best)["ws"]
    rest = {key: value for key, value in state.best.items() if key in space.keys and key != "w"}
    return {**rest, space.detail.key: space.from_ws(G, w)}


def image_rng(seed: int | jax.Array, words: jax.Array) -> jax.Array:
    """A key per image [B] from the seed and the words [B, 2] of its id."""
    key = jax.random.key(seed)
    return jax.vmap(lambda w: jax.random.fold_in(jax.random.fold_in(key, w[0]), w[1]))(words)
