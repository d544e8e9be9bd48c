"""The beginning of a batch: starting codes and targets, computed on the devices once per batch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lsap_jax.inversion import loop
from lsap_jax.losses.judges import Networks, seen_under
from lsap_jax.losses.terms import MASKED, Targets
from lsap_jax.models.generator import Generator
from lsap_jax.networks.image_by_image import in_groups
from lsap_jax.spaces import feature


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where codes begin: for `f` see `feature.uses_encoder`, for `detail` `Space.init`; `w_steps` in W come first."""

    f: str
    detail: str
    w_steps: int


def prepare(
    problem: loop.Problem,
    start: Start,
    networks: Networks,
    inputs: Mapping[str, Any],
    seed: jax.Array,
    live: jax.Array,
) -> tuple[loop.State, Targets]:
    """Starting state and targets of the images of a batch where `live` [B] holds; see `Layout.arrays`."""
    rng = image_rng(seed, inputs["words"])
    begin = partial(_begin, problem, start, networks)
    state, targets = in_groups(problem.together, live, begin, inputs, rng)
    return state, targets.replace(rng=rng if problem.latent_noise.scale > 0 else None)


def _begin(
    problem: loop.Problem,
    start: Start,
    networks: Networks,
    inputs: Mapping[str, Any],
    rng: jax.Array,
) -> tuple[loop.State, Targets]:
    """Starting state, and targets without the keys of latent noise, of images [B] with a key each."""
    images, space = inputs["images"], problem.space
    G = networks.generator.given(inputs["start"]["c"] if space.has_class else None)

    def seen_by(name: str) -> jax.Array:
        return inputs["seen_by"].get(name, images)  # type: ignore[no-any-return]

    f0 = feature.start(G, seen_by("basecode"), space.base_resolution, start.f) if space.has_base else None
    seen, mask = {name: judge.features(seen_by(name)) for name, judge in networks.judges.items()}, inputs.get("mask")
    for name in [name for name, judge in networks.judges.items() if mask is not None and judge.blackens]:
        seen[name + MASKED] = networks.judges[name].features(seen_under(mask, seen_by(name)))
    targets = Targets(images=images, seen=seen, f0=f0, mask=mask)
    if start.w_steps:
        codes = from_w(problem, start.w_steps, networks, G, rng, targets)
    elif start.detail == "encoder":
        assert G.encoder is not None, "checked beforehand"
        codes = space.init(G, rng, f0) | {space.key: space.from_ws(G, G.encoder(seen_by("encoder"), G))}
    else:
        codes = space.init(G, rng, f0, start.detail)
    if "start" in inputs:
        given = space.retract(inputs["start"])
        codes = {key: loop.select(inputs["has_start"][key], given[key], codes[key]) for key in codes}
    return loop.initial_state(problem, codes), targets


def from_w(
    problem: loop.Problem, steps: int, networks: Networks, G: Generator, rng: jax.Array, targets: Targets
) -> dict[str, jax.Array]:
    """Codes after some steps in W (F/W for an F space) from the mean w; other parts of the code are kept. `G` is the
    networks' generator, given the labels of the images.
    """
    space = problem.space
    easy = space.in_w()
    first = replace(problem, space=easy, retraction="project", keep_best=True, together=0, still=False)
    state = loop.initial_state(first, easy.init(G, rng, targets.f0))
    noisy = targets.replace(rng=rng if problem.latent_noise.scale > 0 else None)
    count, live = jnp.asarray(steps, jnp.int32), jnp.ones(len(rng), bool)
    state, _ = loop.chunk(first, steps + 1, networks, state, noisy, count, live)
    ws = easy.decode(networks.generator, state.best).ws
    assert ws is not None
    rest = {key: value for key, value in state.best.items() if key in space.keys and key != easy.key}
    return {**rest, space.key: space.from_ws(G, ws)}


def image_rng(seed: int | jax.Array, words: jax.Array) -> jax.Array:
    """A key per image [B] from the seed and the words [B, 2] of its id."""
    key = jax.random.key(seed)
    return jax.vmap(lambda w: jax.random.fold_in(jax.random.fold_in(key, w[0]), w[1]))(words)
