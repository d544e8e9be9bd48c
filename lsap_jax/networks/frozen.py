"""Weights that no step changes, in the forms that steps need: turned, transformed, scaled once per run.

A module gets its weight from `weight`: the param, or the frozen form that `freeze` put in its place in the same tree.
`variables` splits such a tree for `Module.apply`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import flax.linen as nn
import jax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.networks.convolution import Kernel

COLLECTION = "frozen"
Params = Mapping[str, Any]


class Dense(struct.PyTreeNode):
    """The weight [in, out] of a dense layer as it is used, scaled."""

    weight: jax.Array


Form = TypeVar("Form", Kernel, Dense)


def weight(
    module: nn.Module,
    init: nn.initializers.Initializer,
    shape: tuple[int, ...],
    use: Callable[[jax.Array], jax.Array],
    make: Callable[[jax.Array], Form],
) -> jax.Array | Form:
    """A module's param "weight" as it is used (`use`: scaled, flipped), or the frozen form that was made of that."""
    if module.has_variable(COLLECTION, "weight"):
        return module.get_variable(COLLECTION, "weight")  # type: ignore[no-any-return]
    used = use(module.param("weight", init, shape))
    if module.is_mutable_collection(COLLECTION) and not module.is_initializing():
        module.put_variable(COLLECTION, "weight", make(used))
    return used


def variables(params: Params) -> dict[str, Any]:
    """The variables for `Module.apply` from a tree of params, some of which may be frozen."""
    flat = flatten_dict(dict(params))
    made = {path: leaf for path, leaf in flat.items() if isinstance(leaf, Kernel | Dense)}
    if not made:
        return {"params": params}
    plain = {path: leaf for path, leaf in flat.items() if path not in made}
    return {"params": unflatten_dict(plain), COLLECTION: unflatten_dict(made)}


def freeze(
    network: nn.Module, params: Params, *inputs: Any, winograd: int = 0, changed: Collection[str] = (), **options: Any
) -> dict[str, Any]:
    """Params in which every weight that a pass over these inputs uses has its frozen form.

    Args:
        winograd: smallest number of input and output channels at which a convolution takes Winograd's form; 0 is never.
        changed: weights that stay as they are, by their path with dots between, because steps render with others.
    """
    _, made = network.apply({"params": params}, *inputs, mutable=[COLLECTION], **options)
    found = {path: leaf for path, leaf in flatten_dict(made[COLLECTION]).items() if ".".join(path) not in changed}
    if winograd:
        found = {k: leaf.winograd(winograd) if isinstance(leaf, Kernel) else leaf for k, leaf in found.items()}
    return unflatten_dict(flatten_dict(dict(params)) | found)
