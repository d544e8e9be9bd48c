"""What the tests of the trainings of refiners share: a generator with an encoder, a pack of images, and checks."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from lsap_jax.losses.judges import Networks
from lsap_jax.models.network_file import attach, load
from lsap_jax.models.psp import PspEncoder
from lsap_jax.networks.psp import PspConfig, param_shapes
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training.initial import initial_params
from lsap_jax.training.on_images import compiled_step
from lsap_jax.training.refiner import train_refiner

PYRAMID = {"units": ((16, 2), (16, 2), (16, 2)), "taps": (0, 1, 2), "head_convs": (1, 2, 3)}
SINGLE = {"units": ((16, 2), (16, 2)), "heads": "single"}


def with_encoder(**shape: Any):
    """The tiny generator with an encoder of this shape, `PYRAMID` or `SINGLE`, that was not trained."""
    G = tiny_generator()
    own = PspConfig(num_ws=G.num_ws, w_dim=G.w_dim, input_resolution=16, **shape)
    params = {"encoder": initial_params(param_shapes(own), 0), "w_avg": np.tile(np.asarray(G.w_avg), (G.num_ws, 1))}
    return attach(G, PspEncoder(config=own, params=params))


def written_pack(folder, count: int) -> str:
    """A file of so many images, for `data`."""
    path = folder / "pack.npz"
    np.savez(path, images=tiny_images(count))
    return str(path)


def check_start(method: ModuleType, task: Any, G: Any) -> None:
    """A training begins at the images of the codes."""
    state = method.first_state(task, Networks(generator=G), 0)
    x = jnp.asarray(tiny_images(4) / 127.5 - 1, jnp.float32)
    judge, networks = jax.jit(method.judge, static_argnums=0), Networks(generator=G.bare("psp"))
    found, (plain, refined) = judge(task, networks, method.part_of(task, state), x)
    np.testing.assert_allclose(plain, refined, atol=1e-5)
    np.testing.assert_allclose(found["mse"], found["codes_mse"], rtol=1e-4)


def check_devices(method: ModuleType, step: Any, task: Any, G: Any) -> None:
    """A step on two devices is that on one."""
    found = []
    for count in (1, 2):
        state = method.first_state(task, Networks(generator=G), 0)
        compiled = compiled_step(step, task, tuple(jax.local_devices()[:count]))
        networks, data = Networks(generator=G.bare("psp")), tiny_images(8)
        found.append(compiled(networks, state, data, jnp.arange(8), 0, 0, jax.random.key(1)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *found)


def check_all_moves(before: Any, file: Any, kind: str) -> None:
    """Every weight and statistic of a file differs from the first ones."""
    first, last = flatten_dict(before), flatten_dict(dict(load(file, kind).params))
    assert first.keys() == last.keys()
    assert not [path for path, leaf in first.items() if np.array_equal(leaf, last[path])]


def check_goes_on(part: Any, whole: Any, G: Any, trained, folder) -> None:
    """A training by `part` that goes on by `whole` writes the bytes of one that was not interrupted, `trained`."""
    for config in (part, whole):
        train_refiner(config, G, folder, lambda _: None)
    for name in ("refiner.safetensors", "validation.csv"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()
