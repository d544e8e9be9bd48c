"""The coarse inversion of DHR (arXiv 2301.12141): some steps of StyleGAN2's projector in W, and where its image differs
from the target.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.inversion import loop
from lsap_jax.inversion.settings import make_problem
from lsap_jax.losses.judges import Judge, Networks
from lsap_jax.losses.terms import Targets
from lsap_jax.models.generator import Generator
from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import space_from_config
from lsap_jax.spaces.statistics import with_statistics

PIXELS = 256  # a side, at which the projector compares images


class Coarse(struct.PyTreeNode, kw_only=True):
    """The projector as a part of a refiner.

    Attributes:
        judge: its perceptual distance, at the resolution of the images.
        statistics: the spread of w, of the latent noise.
        problem: of the projector.
    """

    judge: Judge
    statistics: LatentStatistics
    problem: loop.Problem = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False, default=40)

    def __call__(self, G: Generator, images: jax.Array, rng: jax.Array) -> list[jax.Array]:
        """Maps [B, h, w] of the perceptual distance of targets [B, R, R, C] and what the projector makes of them, one
        per tap. As in the original it is what the last step starts from, unclipped, without latent noise.
        """
        G, whole = G.with_part("statistics", self.statistics), self.judge
        small = at_most(whole, PIXELS)
        networks = Networks(generator=G.freeze(), judges={"perceptual": small.freeze(G.img_resolution)})
        seen = networks.judges["perceptual"].features(images)
        targets = Targets(images=images, seen={"perceptual": seen}, rng=rng)
        problem = self.problem
        state = loop.initial_state(problem, problem.space.init(G, rng, None, "w_avg"))

        def step(state: loop.State, _: None) -> tuple[loop.State, None]:
            return loop.step(problem, networks, state, targets, jnp.int32(self.steps))[0], None

        state, _ = jax.lax.scan(step, state, length=self.steps - 1)
        shown = synthesise(G, problem.space.decode(G, state.codes))
        return [
            jnp.sum(jnp.square(a - b), -1) for a, b in zip(whole.features(shown), whole.features(images), strict=True)
        ]


def at_most(judge: Any, side: int) -> Any:
    """A judge that reduces images above this many pixels a side; one of a fixed size stays as it is."""
    return judge.replace(resolution=min(judge.resolution, side)) if getattr(judge, "backbone", None) else judge


def make(G: Generator, judge: Judge, steps: int, lr: float) -> Coarse:
    """The projector for a generator.

    Raises:
        LsapError: the generator is conditional.
    """
    if G.c_dim:
        raise LsapError(
            "method 'dhr': its coarse inversion starts at the mean w of all images, which a conditional generator does "
            "not have; use another method"
        )
    config = load_config("projector")
    config.optimizer.lr, config.steps = lr, steps
    config.noise_maps = bool(G.config.noise_layers)
    config.loss.noise *= config.noise_maps
    statistics = with_statistics(G).statistics
    assert statistics is not None
    problem = make_problem(config, space_from_config(config, G))
    return Coarse(judge=judge, statistics=statistics, problem=problem, steps=steps)
