"""Pivotal tuning: images per hour beside PyTorch, and quality and bytes per image by the rank of the stored changes.

    python benchmarks/refine.py speed [--resolution 256] [--batch 1 4 16] [--steps 5] [--rounds 3] [--no-torch]
    python benchmarks/refine.py quality --images avatars_64.npz [--generator toonhead64] [--count 8] [--ranks 0 16 4 1]

`speed` takes random weights, the same on both sides, and turns about in one process. PyTorch tunes one image after the
other, as the original does; its losses are compared. Tunings of one step and of `--steps` give the time of a step and
that of the rest; an hour is counted as whole tunings of 350 steps. `quality` takes
held-out images of a training pack (the last 200) with W pivots, and says how much of the full changes' gain each rank
loses; rank 0 is full.
"""

import argparse
import os
import time
from functools import partial

from step import networks

STEPS = 350


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    speed = kinds.add_parser("speed")
    speed.add_argument("--resolution", type=int, default=256)
    speed.add_argument("--channel-base", type=int, default=16384)
    speed.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    speed.add_argument("--ranks", type=int, nargs="+", default=[0, 4])
    speed.add_argument("--steps", type=int, default=11, help="of the longer tuning of each image and turn")
    speed.add_argument("--rounds", type=int, default=3)
    speed.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    quality = kinds.add_parser("quality")
    quality.add_argument("--images", required=True, help="a training pack")
    quality.add_argument("--generator", default="toonhead64")
    quality.add_argument("--count", type=int, default=8)
    quality.add_argument("--steps", type=int, default=STEPS)
    quality.add_argument("--pivot-steps", type=int, default=450)
    quality.add_argument("--ranks", type=int, nargs="+", default=[0, 16, 4, 1])
    return parser.parse_args()


def jax_runner(G, perceptual, ws, targets, rank: int, steps: int):
    """A function that tunes all images once and returns their losses after the last step."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lsap_jax.networks.image_by_image import images_at_once, in_groups
    from lsap_jax.refinement.pti import Pti
    from lsap_jax.rendering.render import synthesise
    from lsap_jax.spaces import parse_space

    space, method = parse_space("w+"), Pti(judge=perceptual, steps=steps, stop=0.0, rank=rank)

    def some(G, method, ws, targets, rng):
        codes, refinement, _ = method(G, space, {"w": ws}, targets, rng, None)
        image = synthesise(G, space.decode(G, codes), refinement)
        distance = method.judge.distance(method.judge.features(image), method.judge.features(targets))
        return jnp.square(image - targets).mean((1, 2, 3)) + distance

    @jax.jit
    def tune(G, method, live, *inputs):
        return in_groups(images_at_once(jax.local_devices()), live, partial(some, G, method), *inputs)

    inputs = np.ones(len(ws), bool), jnp.asarray(ws), jnp.asarray(targets), jax.random.split(jax.random.key(0), len(ws))
    compiled = tune.lower(G, method, *inputs).compile()
    return lambda: np.asarray(compiled(G, method, *inputs))


def torch_runner(G, backbone, lin, ws, targets, convolution, steps: int):
    """The same, an image at a time; one step more, for the loss after the last."""
    import numpy as np
    import torch_step as other

    perceptual = other.Lpips(backbone, lin)

    def run():
        found = []
        for i in range(len(ws)):
            network = other.Generator(G.params, G.config.channels, G.config.resample_filter, convolution)
            found.append(other.Tuning(network, perceptual, ws[i : i + 1], targets[i : i + 1], 3e-4).run(steps + 1))
        return np.concatenate(found)

    return run


def speed(args: argparse.Namespace) -> None:
    import jax
    import numpy as np

    G, perceptual, backbone, lin = networks(args.resolution, args.channel_base)
    threads = ""
    if args.torch:
        import torch
        import torch_step as other

        threads = f", torch {torch.__version__} with {torch.get_num_threads()} threads"
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}{threads}; load {os.getloadavg()[0]:.1f}")
    rows = []
    for batch in args.batch:
        rng = np.random.default_rng(1)
        ws = rng.standard_normal((batch, G.num_ws, G.w_dim)).astype(np.float32)
        targets = rng.uniform(-1, 1, (batch, args.resolution, args.resolution, 3)).astype(np.float32)
        makers = {f"jax, rank {rank}": partial(jax_runner, G, perceptual, ws, targets, rank) for rank in args.ranks}
        for name, convolution in other.FORMULATIONS.items() if args.torch else ():
            makers[f"torch {name}"] = partial(torch_runner, G, backbone, lin, ws[:1], targets[:1], convolution)
        runners = {(name, steps): make(steps) for name, make in makers.items() for steps in (1, args.steps)}
        losses = {key: run() for key, run in runners.items()}
        last = ", ".join(f"{name} {losses[name, args.steps][0]:.6f}" for name in makers)
        print(f"batch {batch}: loss of the first image {last}", flush=True)
        times = {key: [] for key in runners}
        for _ in range(args.rounds):
            for key, run in runners.items():
                started = time.perf_counter()
                images = len(run())
                times[key].append((time.perf_counter() - started) / images)
        for name in makers:
            short, long = (np.median(times[name, steps]) for steps in (1, args.steps))
            step = (long - short) / (args.steps - 1)
            rows.append((batch, name, 3600 / (short + step * (STEPS - 1)), step, short - step))
    print("\n| batch | variant | images per hour | s per image-step | s per image besides |\n|---|---|---|---|---|")
    for batch, name, rate, step, besides in rows:
        print(f"| {batch} | {name} | {rate:.1f} | {step:.3f} | {besides:.1f} |")


def quality(args: argparse.Namespace) -> None:
    import numpy as np

    import lsap_jax
    from lsap_jax.rendering.refinement import take, to_arrays
    from lsap_jax.storage.file_bytes import npz_bytes

    G = lsap_jax.load_generator(args.generator)
    with np.load(args.images) as file:
        images = file["images"][-200:][:: 200 // args.count][: args.count]
    inv = lsap_jax.invert(G, images, "projector", steps=args.pivot_steps, noise_maps=False, **{"loss.noise": 0.0})
    (distance,) = (name for name in inv.metrics if name not in ("mse", "psnr", "ssim"))
    rows = [("none", 0.0, 0.0, inv.metrics)]
    for rank in args.ranks:
        started = time.perf_counter()
        found = lsap_jax.refine(G, inv, images, "pti", steps=args.steps, rank=rank, stop=0.0)
        seconds = (time.perf_counter() - started) / len(images)
        size = np.mean([len(npz_bytes(to_arrays(take(found.refinement, i)))) for i in range(len(images))])
        rows.append(("full" if rank == 0 else str(rank), size, seconds, found.metrics))
    losses = {name: float((metrics["mse"] + metrics[distance]).mean()) for name, _, _, metrics in rows}
    print(f"{len(images)} images, W pivots, {args.steps} steps, load {os.getloadavg()[0]:.1f}")
    print(f"| rank | bytes per image | mse | {distance} | loss | of the full gain | s per image, compilation too |")
    print("|---|---|---|---|---|---|---|")
    for name, size, seconds, metrics in rows:
        share = (losses["none"] - losses[name]) / (losses["none"] - losses.get("full", min(losses.values())))
        values = f"{metrics['mse'].mean():.6f} | {metrics[distance].mean():.6f} | {losses[name]:.6f}"
        print(f"| {name} | {size:.0f} | {values} | {share:.3f} | {seconds:.1f} |")


if __name__ == "__main__":
    args = arguments()
    {"speed": speed, "quality": quality}[args.kind](args)
