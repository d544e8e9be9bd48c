"""Seconds per image-step: generator, LPIPS-VGG16, Adam and retraction, beside two PyTorch forms of the same step.

    python benchmarks/step.py [--batch 1 8] [--rounds 5] [--steps 3] [--allocator default|tuned] [--resolution 256]
                              [--variants NAME ...] [--no-torch] [--checkout PATH] [--ceilings]
    python benchmarks/step.py --families stylegan2 stylegan1 --no-torch --variants jax

All variants run in turns within one process, so that whatever else the machine does meets all of them. Random weights,
the same on all sides; their losses are compared. `--families` measures StyleGAN1, of the same channels, beside
StyleGAN2. `--checkout` adds NVIDIA's generator of a stylegan2-ada-pytorch or stylegan3 of yours. Target features are
computed once. The allocator's settings decide the PyTorch side on CPUs: run both (see README.md here).
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

TUNED = {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
LR, WEIGHT = 0.01, 10.0
# name -> what it has of `compute` in the configuration
VARIANTS = {
    "jax": {},
    "jax by image": {"together": 1},
    "jax winograd": {"winograd": 256},
    "jax winograd by image": {"winograd": 256, "together": 1},
    "jax remat": {"remat": True},
    "jax half": {"half_blocks": 4},
    "jax high": {"precision": "high"},
    "jax default": {"precision": "default"},
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5, help="turns per variant")
    parser.add_argument("--steps", type=int, default=3, help="steps per turn, one scan on the JAX side")
    parser.add_argument("--allocator", choices=("default", "tuned"), default="default")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--channel-base", type=int, default=16384)
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--families", nargs="+", default=["stylegan2"], choices=("stylegan2", "stylegan1"))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS)[:4], choices=VARIANTS)
    parser.add_argument("--ceilings", action="store_true", help="measure what the device reaches, too")
    parser.add_argument("--checkout", default="", help="a checkout of the original PyTorch code, to be measured, too")
    return parser.parse_args()


def allocate(kind: str) -> None:
    """glibc reads these at start: the process begins again with them set as asked for."""
    wanted = TUNED if kind == "tuned" else {}
    if {key: os.environ[key] for key in TUNED if key in os.environ} != wanted:
        environment = {key: value for key, value in os.environ.items() if key not in TUNED} | wanted
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def networks(resolution: int, channel_base: int, family: str = "stylegan2"):
    """(generator, LPIPS, its backbone's arrays, its lin arrays), random but of the scale of trained ones."""
    import jax
    import numpy as np

    from lsap_jax.models.generator import Generator
    from lsap_jax.models.perceptual import lpips
    from lsap_jax.networks.families import FAMILIES, initial_params
    from lsap_jax.networks.perceptual import STACKS, Conv, tap_channels

    channels = tuple(min(channel_base // (4 << i), 512) for i in range(resolution.bit_length() - 2))
    config = FAMILIES[family].GeneratorConfig(img_resolution=resolution, channels=channels)
    G = Generator(config=config, params=jax.jit(initial_params, static_argnums=0)(config, jax.random.key(0)))
    rng, cin, backbone = np.random.default_rng(0), 3, {}
    for step in STACKS["vgg16"]:
        if isinstance(step, Conv):
            shape = (step.width, cin, 3, 3)
            backbone[f"features.{step.place}.weight"] = rng.normal(0, (2 / (9 * cin)) ** 0.5, shape).astype(np.float32)
            backbone[f"features.{step.place}.bias"] = np.zeros(step.width, np.float32)
            cin = step.width
    lin = {f"lin{k}.weight": np.full(c, 1 / c, np.float32) for k, c in enumerate(tap_channels("vgg16"))}
    return G, lpips("vgg16", backbone, lin, resolution=resolution), backbone, lin


def jax_runner(G, perceptual, z, targets, steps: int, name: str) -> tuple[Callable[[], object], dict[str, float]]:
    """A function that runs one scan and returns the losses [B] before its last step; and what the compiler says:
    "seconds" of compilation, "MiB" of temporary memory, "GFLOP" and "GB" moved per image-step.
    """
    from dataclasses import replace

    import jax
    import jax.numpy as jnp
    import numpy as np

    from lsap_jax.configuration import load_config
    from lsap_jax.inversion import loop
    from lsap_jax.inversion.settings import make_problem
    from lsap_jax.losses.judges import Networks
    from lsap_jax.losses.terms import Targets
    from lsap_jax.spaces import parse_space

    config = load_config("z+", {"optimizer.lr": LR, "loss.perceptual": WEIGHT})
    options = {"winograd": 0, "together": 0, "half_blocks": 0, "remat": False, "precision": "highest"}
    options |= VARIANTS[name]
    problem = make_problem(config, parse_space("z+"))
    problem = replace(problem, **{key: options[key] for key in ("together", "remat", "precision")})
    goal = Targets(images=jnp.asarray(targets), seen={"perceptual": perceptual.features(jnp.asarray(targets))})
    networks = Networks(generator=G, judges={"perceptual": perceptual}).freeze(
        options["winograd"], options["half_blocks"]
    )
    # Donated: no two leaves may share memory.
    state = jax.tree.map(jnp.copy, loop.initial_state(problem, {"z": jnp.asarray(z)}))
    chunk = jax.jit(partial(loop.chunk, problem, steps), donate_argnums=1)
    started = time.perf_counter()
    live = np.ones(len(z), bool)
    traced = chunk.trace(networks, state, goal, np.int32(2**30), live)
    compiled = traced.lower().compile()
    facts = {"seconds": time.perf_counter() - started, "MiB": compiled.memory_analysis().temp_size_in_bytes / 2**20}
    # Operations before the compiler replaces convolutions by a library's, whose work it does not know; counted for a
    # processor, as other backends do not count them.
    counted = traced.lower(lowering_platforms=("cpu",))
    for key, unit, program in (("flops", "GFLOP", counted), ("bytes accessed", "GB", compiled)):
        facts[unit] = (program.cost_analysis() or {}).get(key, float("nan")) / len(z) / 1e9

    def run():
        nonlocal state
        state, curves = compiled(networks, state, goal, np.int32(2**30), live)
        return np.asarray(curves["loss"][:, -1])

    return run, facts


def ceilings(side: int = 0) -> dict[str, float]:
    """What the device reaches: FLOP/s of products of random matrices with `side` rows, by arithmetic; bytes/s of a copy
    of eight such matrices.
    """
    import jax
    import jax.numpy as jnp

    side = side or (2048 if jax.default_backend() == "cpu" else 8192)

    def seconds(function, *inputs) -> float:
        compiled = jax.jit(function).lower(*inputs).compile()
        jax.block_until_ready(compiled(*inputs))
        times = []
        for _ in range(5):
            started = time.perf_counter()
            jax.block_until_ready(compiled(*inputs))
            times.append(time.perf_counter() - started)
        return sorted(times)[2]

    found = {}
    for dtype, precision in ((jnp.float32, "highest"), (jnp.float32, "default"), (jnp.bfloat16, "default")):
        a = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = partial(jnp.matmul, precision=precision)
        found[f"{jnp.dtype(dtype).name} {precision} FLOP/s"] = 2 * side**3 / seconds(product, a, a)
    large = jnp.ones((side * side * 8,))
    found["bytes/s"] = 2 * large.nbytes / seconds(lambda a: a + 1, large)
    return found


def torch_runners(G, backbone, lin, z, targets, steps: int, checkout: str) -> dict[str, Callable[[], object]]:
    import jax
    import torch_step as other

    other.DEVICE = "cuda" if jax.default_backend() == "gpu" else "cpu"
    perceptual = other.Lpips(backbone, lin)
    runners = {}
    for name, convolution in other.FORMULATIONS.items():
        network = other.Generator(G.params, G.config.channels, G.config.resample_filter, convolution)
        runners[f"torch {name}"] = partial(other.Inversion(network, perceptual, z, targets, LR, WEIGHT).run, steps)
    for fused in (True, False) if checkout else ():
        network = other.Original(checkout, G.params, G.config, fused)
        name = f"torch original, {'fused' if fused else 'not fused'}"
        runners[name] = partial(other.Inversion(network, perceptual, z, targets, LR, WEIGHT).run, steps)
    return runners


def measure(runners: dict[str, Callable[[], object]], rounds: int, images: int) -> dict[str, list[float]]:
    """Seconds per image-step of every turn; the first round, which warms up, is compared and not counted."""
    import numpy as np

    losses = {name: np.asarray(run()) for name, run in runners.items()}
    for name, found in losses.items():
        reference = next(one for other, one in losses.items() if family_of(other) == family_of(name))
        off = np.abs(found / reference - 1).max()
        print(f"  {name}: loss {found.mean():.6f}, largest relative difference {off:.1e}")
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - started) / images)
    return times


def family_of(name: str) -> str:
    """Of a variant, as "stylegan1: jax"; variants without one are of StyleGAN2."""
    return name.partition(": ")[0] if ": " in name else "stylegan2"


def main() -> None:
    args = arguments()
    allocate(args.allocator)
    import jax
    import numpy as np

    from lsap_jax.spaces.sphere import retract

    made = {family: networks(args.resolution, args.channel_base, family) for family in args.families}
    if "stylegan2" not in made and args.torch:
        raise SystemExit("the PyTorch side is of StyleGAN2: add it to --families, or give --no-torch")
    versions = f"jax {jax.__version__} on {jax.devices()[0].device_kind}"
    if args.torch:
        try:
            import torch

            versions += f", torch {torch.__version__} with {torch.get_num_threads()} threads"
        except ImportError:
            args.torch = False
            print("torch is not installed: the JAX side alone")
    size = f"{args.resolution} px, channel base {args.channel_base}"
    print(f"{versions}; {size}, allocator {args.allocator}, load of the machine {os.getloadavg()[0]:.1f}")
    if args.ceilings:
        print("this device reaches " + ", ".join(f"{value:.2e} {name}" for name, value in ceilings().items()))
    rows = []
    for batch in args.batch:
        print(f"batch {batch}")
        rng = np.random.default_rng(1)
        num_ws, z_dim = (getattr(made[args.families[0]][0], name) for name in ("num_ws", "z_dim"))
        z = np.asarray(retract(rng.standard_normal((batch, num_ws, z_dim)).astype(np.float32)))
        targets = rng.uniform(-1, 1, (batch, args.resolution, args.resolution, 3)).astype(np.float32)
        runners = {}
        for family, name in ((family, name) for family in made for name in args.variants):
            if batch > 1 or "by image" not in name:
                G, perceptual, _, _ = made[family]
                own = name if len(made) == 1 else f"{family}: {name}"
                runners[own], facts = jax_runner(G, perceptual, z, targets, args.steps, name)
                print(f"  {own}: " + ", ".join(f"{value:.3g} {unit}" for unit, value in facts.items()) + " (compiler)")
        if args.torch:
            G, perceptual, backbone, lin = made["stylegan2"]
            runners |= torch_runners(G, backbone, lin, z, targets, args.steps, args.checkout)
        times = measure(runners, args.rounds, batch * args.steps)
        best = min((np.median(t) for name, t in times.items() if name.startswith("torch")), default=float("nan"))
        for name, t in times.items():
            rows.append((batch, name, np.median(t), min(t), max(t), best / np.median(t)))
    print(
        f"\n| batch | variant | s per image-step, median of {args.rounds} | least | most | against the better torch |"
    )
    print("|---|---|---|---|---|---|")
    for batch, name, median, least, most, ratio in rows:
        print(f"| {batch} | {name} | {median:.3f} | {least:.3f} | {most:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
