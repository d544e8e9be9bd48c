"""Other roads to the loss of `f/z+:fast`, counted in gradients: L-BFGS, losses from coarse to fine, Riemannian Adam.

    python benchmarks/alternatives.py --images avatars_64.npz [--count 12] [--gradients 50 100 150]

All begin at the encoder's code. L-BFGS (optax, zoom line search) has a history per image, over the code with z brought
to the sphere inside the loss; a line search that needs three gradients counts three. From coarse to fine: the
perceptual distance without its finer feature maps at first. Printed: the mean over the images of the least loss after
so many gradients, with a 95 % bootstrap interval, and on how many images it is below that of `f/z+:fast` there.
"""

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pairs import interval

from lsap_jax.configuration import load_config
from lsap_jax.inversion import loop
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.losses.judges import Networks
from lsap_jax.models.generator_file import load_generator
from lsap_jax.training.dataset import load_pack

HISTORY, SEARCH = 10, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--images", required=True, help="an .npz pack with `images`, of which the last are taken")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--gradients", type=int, nargs="+", default=[50, 100, 150])
    args = parser.parse_args()
    G = load_generator(args.generator)
    pack = load_pack(args.images, G.img_resolution, G.img_channels)
    indices = np.linspace(len(pack) - 200, len(pack) - 1, args.count).round().astype(int)
    most = max(args.gradients)
    config = load_config("f/z+:fast", {"steps": most, "batch_size": args.count})
    inverter = Inverter(G, config, devices=jax.local_devices()[:1])
    begun = inverter.begin([Job(id=f"{i:06d}", image=pack[i]) for i in indices])
    state, targets = jax.tree.map(lambda a: a[0], begun)
    networks = Networks(generator=G.freeze(), judges={"perceptual": inverter.judges["perceptual"].judge})
    problem, given = inverter.problem, (state, targets)
    runs = {
        "f/z+:fast": adam(problem, networks, *given, most),
        "riemannian": adam(replace(problem, retraction="riemannian"), networks, *given, most),
        "coarse to fine, third": coarse_to_fine(problem, networks, *given, most // 3, most),
        "coarse to fine, tenth": coarse_to_fine(problem, networks, *given, most // 10, most),
        "l-bfgs": lbfgs(problem, networks, *given, most),
    }
    print(f"| road | {' | '.join(f'{n} gradients | lower on' for n in args.gradients)} |")
    print(f"|---|{'---|---|' * len(args.gradients)}")
    for name, losses in runs.items():
        cells = []
        for n in args.gradients:
            here, there = losses[:, n - 1], runs["f/z+:fast"][:, n - 1]
            cells += [interval(here), f"{(here < there).sum()} of {len(here)}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def adam(problem: loop.Problem, networks: Networks, state: loop.State, targets: Any, count: int) -> np.ndarray:
    """Least loss [B, count] after each gradient."""
    fresh, live = loop.initial_state(problem, state.codes), jnp.ones_like(state.active)
    _, curve = jax.jit(partial(loop.chunk, problem, count))(networks, fresh, targets, jnp.int32(count), live)
    return np.minimum.accumulate(np.asarray(curve["loss"]), axis=1)


def coarse_to_fine(
    problem: loop.Problem, networks: Networks, state: loop.State, targets: Any, coarse: int, count: int
) -> np.ndarray:
    """The same with half of the perceptual taps, the finer ones, without weight for the first gradients. Losses of
    those are not the whole ones and count as infinite.
    """
    perceptual: Any = networks.judges["perceptual"]
    fine = len(perceptual.weights) // 2
    weights = tuple(w * (i >= fine) for i, w in enumerate(perceptual.weights))
    dull = networks.replace(judges={"perceptual": replace(perceptual, weights=weights)})
    features = [f * (i >= fine) for i, f in enumerate(targets.seen["perceptual"])]
    seen = targets.replace(seen={"perceptual": features})
    state, live = loop.initial_state(problem, state.codes), jnp.ones_like(state.active)
    state, _ = jax.jit(partial(loop.chunk, problem, coarse))(dull, state, seen, jnp.int32(count), live)
    state = state.replace(best_loss=jnp.full_like(state.best_loss, jnp.inf))
    rest = jax.jit(partial(loop.chunk, problem, count - coarse))
    losses = np.asarray(rest(networks, state, targets, jnp.int32(count), live)[1]["loss"])
    return np.minimum.accumulate(np.concatenate([np.full((len(losses), coarse), np.inf), losses], axis=1), axis=1)


def lbfgs(problem: loop.Problem, networks: Networks, state: loop.State, targets: Any, count: int) -> np.ndarray:
    """Least loss [B, count] by L-BFGS, image by image."""
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=SEARCH)
    solver = optax.lbfgs(memory_size=HISTORY, linesearch=search)

    def minimise(codes: Any, target: Any) -> tuple[jax.Array, jax.Array]:
        def value(codes: Any) -> jax.Array:
            one = problem.space.retract(jax.tree.map(lambda a: a[None], codes))
            return problem.loss(networks, one, jax.tree.map(lambda a: a[None], target))[0][0]

        def body(carry: Any, _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            codes, memory = carry
            found, gradient = optax.value_and_grad_from_state(value)(codes, state=memory)
            updates, memory = solver.update(gradient, memory, codes, value=found, grad=gradient, value_fn=value)
            return (optax.apply_updates(codes, updates), memory), (found, memory[-1].info.num_linesearch_steps)

        carry = (codes, solver.init(codes))
        return jax.lax.scan(body, carry, None, length=count)[1]

    one = jax.jit(minimise)
    table = np.full((len(next(iter(state.codes.values()))), count), np.inf)
    for i, row in enumerate(table):
        pick = partial(jax.tree.map, lambda a, i=i: a[i])
        losses, steps = (np.asarray(a) for a in one(pick(state.codes), pick(targets)))
        at = np.concatenate([[0], np.cumsum(np.maximum(steps, 1))[:-1]])  # gradients taken when a loss is known
        for loss, n in zip(losses, at, strict=True):
            if n < count:
                row[int(n)] = loss
        table[i] = np.fmin.accumulate(row)
    return table


if __name__ == "__main__":
    main()
