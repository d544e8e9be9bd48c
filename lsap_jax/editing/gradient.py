"""Edits along the gradient of an attribute: what a classifier of images says is followed back into the code.

A move is divided into equal steps, and the gradient is computed anew before each, so the way bends where the levels of
the attribute do. A step has length 1 per row (root mean square over the rows that reach the picture), as that of a unit
vector has. The gradient is of the picture that the codes make without their refinement.

Reference: Chen et al., Exploring Gradient-based Multi-directional Controls in GANs (arXiv 2209.00698), whose classifier
sees codes in place of images.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict

from lsap_jax.editing.direction import Direction, near
from lsap_jax.errors import LsapError
from lsap_jax.models.attributes import Attributes
from lsap_jax.models.attributes_file import load_attributes
from lsap_jax.models.generator import Generator
from lsap_jax.networks.attributes import AttributesConfig, AttributesNetwork
from lsap_jax.rendering.render import decode, synthesise
from lsap_jax.spaces import Space

STEPS = 10
MOST_STEPS = 1000
TEXT = "gradient:ATTRIBUTE"
OTHER = "name a classifier for it as gradient:FILE:ATTRIBUTE"
TINY = float(np.finfo(np.float32).tiny)


class Gradient(struct.PyTreeNode, kw_only=True):
    """The gradient of the log-odds of an attribute in the code, as a `Trajectory`.

    Attributes:
        config, params: of the classifier.
        label: that the attribute is of.
        positive, negative: indices of its values on either side.
        steps: see `Trajectory`.
    """

    config: AttributesConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]
    label: str = struct.field(pytree_node=False)
    positive: tuple[int, ...] = struct.field(pytree_node=False)
    negative: tuple[int, ...] = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False, default=STEPS)

    def check(self, G: Generator, space: Space) -> None:
        wanted, made = (self.config.resolution, self.config.channels), (G.img_resolution, G.img_channels)
        if wanted != made:
            raise LsapError(
                f"its classifier judges images of {wanted[0]} px and {wanted[1]} channels, this generator makes "
                f"{made[0]} px and {made[1]}; name a classifier for it, as gradient:FILE:ATTRIBUTE"
            )
        if space.noise_mode == "random":
            raise LsapError("a gradient needs the same noise in every step; edit a run with noise_mode const or none")

    def at(self, G: Generator, space: Space, codes: dict[str, jax.Array]) -> jax.Array:
        def score(code: jax.Array) -> jax.Array:
            images = jnp.clip(synthesise(G, decode(G, space, {**codes, space.key: code})), -1, 1)
            logits: Any = AttributesNetwork(self.config).apply({"params": self.params}, images)
            own = logits[self.label]
            sides = [jax.nn.logsumexp(own[:, jnp.array(side)], axis=1) for side in (self.positive, self.negative)]
            return (sides[0] - sides[1]).sum()

        return unit(jax.grad(score)(codes[space.key]))

    def arrays(self) -> dict[str, np.ndarray]:
        params = {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(self.params).items()}
        return {**params, "sides": np.array([*self.positive, -1, *self.negative], np.int32)}


def unit(gradient: jax.Array) -> jax.Array:
    """A gradient [B, d] at length 1, or [B, rows, d] at root mean square 1 over the rows where it is not 0; 0 stays."""
    rows = jnp.any(gradient != 0, axis=-1).reshape(len(gradient), -1).sum(axis=1)
    largest = jnp.abs(gradient).reshape(len(gradient), -1).max(axis=1)
    axes = (-1, *(1,) * (gradient.ndim - 1))
    scaled = gradient / jnp.maximum(largest, TINY).reshape(axes)  # squares of small gradients are no numbers
    length = jnp.sqrt(jnp.square(scaled).reshape(len(gradient), -1).sum(axis=1))
    return scaled * (jnp.sqrt(rows) / jnp.maximum(length, TINY)).reshape(axes)


def gradient_direction(attributes: Attributes, name: str, space: str, steps: int = STEPS) -> Direction:
    """The direction, under the attribute's name, for a family of spaces.

    Args:
        name: of a binary attribute of the classifier.
        steps: of equal length, 1 to 1000, into which every strength is divided.

    Raises:
        LsapError: there is no such attribute, or another number of steps.
    """
    if name not in attributes.binary:
        raise LsapError(f"gradient:{name}: no such attribute{near(name, list(attributes.binary))}")
    if not 1 <= steps <= MOST_STEPS:
        raise LsapError(f"gradient:{name}:{steps}: a gradient is followed in 1 to {MOST_STEPS} steps")
    own = attributes.binary[name]
    values = attributes.labels[own.label]
    trajectory = Gradient(
        steps=steps,
        config=attributes.config,
        params=attributes.params,
        label=own.label,
        positive=tuple(values.index(value) for value in own.positive),
        negative=tuple(values.index(value) for value in own.negative),
    )
    return Direction(name=name, space=space, trajectory=trajectory, source=f"gradient of {name}, {steps} steps")


def gradient_of(G: Generator, space: str, text: str) -> Direction:
    """The direction of [FILE:]ATTRIBUTE[:STEPS]; FILE is a classifier's, that of the generator by default.

    Raises:
        LsapError: no such file or attribute, or a classifier of other images.
    """
    rest, colon, last = text.rpartition(":")
    steps = int(last) if colon and last.isdecimal() and len(last) < 9 else STEPS
    rest = rest if colon and last.isdecimal() else text
    path, colon, name = rest.rpartition(":")
    if colon and not os.path.isfile(path):
        raise LsapError(
            f"gradient:{text}: there is no file {path}; write {TEXT}, gradient:FILE:ATTRIBUTE, or either "
            "with :STEPS behind it"
        )
    return gradient_direction(load_attributes(path if colon else None, G, OTHER), name, space, steps)
