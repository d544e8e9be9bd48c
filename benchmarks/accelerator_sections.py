"""The sections of accelerator.py: functions of its arguments that yield a row of measurements at a time, each with what
it imports.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def device(args: argparse.Namespace) -> Iterator[Row]:
    """Which device and which versions."""
    import flax
    import jax
    import optax

    one = jax.devices()[0]
    yield {"device": one.device_kind, "platform": one.platform, "count": len(jax.devices()), "jax": jax.__version__}
    yield {"flax": flax.__version__, "optax": optax.__version__, "python": sys.version.split()[0]}
    memory = one.memory_stats() or {}
    yield {"memory that JAX may take, GiB": memory.get("bytes_limit", 0) / 2**30, "processors": os.cpu_count()}


def ceilings(args: argparse.Namespace) -> Iterator[Row]:
    """What the device reaches in large products and copies."""
    yield known_ceilings(args)


def known_ceilings(args: argparse.Namespace) -> dict[str, float]:
    from step import ceilings as measured

    if not CEILINGS:
        CEILINGS.update(measured(128 if args.tiny else 0))
    return CEILINGS


CEILINGS: dict[str, float] = {}


def parity(args: argparse.Namespace) -> Iterator[Row]:
    """Images and gradients against a reference, with convolutions in each precision. Parity is 1e-4 of the value and
    1e-5 of the largest.
    """
    import jax
    import numpy as np

    from lsap_jax.networks.arithmetic import PRECISIONS, convolutions_in

    inputs, references, source = golden(args.golden) if args.golden.is_dir() else own_reference()
    for name in PRECISIONS:
        with convolutions_in(name):
            found = jax.jit(seen)(*inputs)
        for what, a, b in zip(("image", "gradient to ws"), found, references, strict=True):
            off, largest = np.abs(np.asarray(a, np.float64) - b), np.abs(b).max()
            yield {
                "precision": name,
                "of": what,
                "reference": source,
                "largest difference by the largest value": float(off.max() / largest),
                "norm of the difference by the norm": float(np.linalg.norm(off) / np.linalg.norm(b)),
                "parity": bool((off <= 1e-4 * np.abs(b) + 1e-5 * largest).all()),
            }


def seen(G: Any, shown: Any, ws: Any, weight: Any) -> tuple[Any, Any]:
    """(image of the ws `shown`, gradient to ws of the weighted sum of their image)."""
    import jax
    import jax.numpy as jnp

    return G.synthesis(shown), jax.grad(lambda ws: jnp.sum(G.synthesis(ws) * weight))(ws)


def golden(folder: Path) -> tuple[Any, ...]:
    """The inputs of `seen`, the original's outputs, and what these are called."""
    import numpy as np

    from lsap_jax.models.generator import Generator
    from lsap_jax.networks.families import generator_shapes
    from lsap_jax.networks.parameters import merge
    from lsap_jax.networks.stylegan2 import GeneratorConfig

    weights, file = (dict(np.load(folder / f"{name}.npz")) for name in ("nv_g32", "nv_g32_grads"))
    meta = json.loads(bytes(weights["meta_json"]))
    sizes, resolution = meta["synthesis_kwargs"], meta["img_resolution"]
    blocks = [4 << i for i in range(resolution.bit_length() - 2)]
    config = GeneratorConfig(
        **{key: meta[key] for key in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")},
        channels=tuple(min(sizes["channel_base"] // r, sizes["channel_max"]) for r in blocks),
        mapping_layers=meta["mapping_kwargs"]["num_layers"],
        layer_features=meta["w_dim"],
        conv_clamp=sizes.get("conv_clamp"),
    )
    state = {k[3:]: v for k, v in weights.items() if k.startswith("sd/") and not k.endswith("resample_filter")}
    G = Generator(config=config, params=merge(generator_shapes(config), state, "golden"))
    inputs = (G, weights["wplus"], file["wplus"], np.moveaxis(file["R"], 1, -1))
    outputs = (np.moveaxis(weights["img_wplus_const"], 1, -1), file["dL_dwplus_const"])
    return inputs, outputs, "the original's, float32"


def own_reference() -> tuple[Any, ...]:
    """As `golden`, of a random generator of 64 channels, by this project on the processor in float64."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lsap_jax.models.generator import Generator
    from lsap_jax.networks.families import generator_shapes
    from lsap_jax.networks.stylegan2 import GeneratorConfig
    from lsap_jax.testing import random_leaves

    config = GeneratorConfig(img_resolution=32, channels=(64,) * 4, z_dim=64, w_dim=64, mapping_layers=2)
    rng = np.random.default_rng(0)
    G = Generator(config=config, params=random_leaves(generator_shapes(config), rng)).bare()
    ws, weight = (rng.standard_normal(s).astype(np.float32) for s in ((2, G.num_ws, G.w_dim), (2, 32, 32, 3)))
    inputs = (G, ws, ws, weight)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        exact = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), inputs)
        outputs = tuple(np.asarray(a) for a in jax.jit(seen)(*exact))
    assert outputs[0].dtype == np.float64
    return inputs, outputs, "own, float64"


def verify(args: argparse.Namespace) -> Iterator[Row]:
    """The pictures of a run folder rendered again here: `lsap-jax verify`."""
    if args.run is None:
        yield {"left out": "no --run was given"}
        return
    from lsap_jax.cli.verify import verify as command

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = command(args.run)
    yield {"run": args.run.name, "exit status": status, "said": said.getvalue().strip().splitlines()[-1]}


def step(resolution: int, channel_base: int, batches: tuple[int, ...], variants: tuple[str, ...], torch: bool):
    """A section: a step at this size in these variants, beside both PyTorch forms on the same device."""

    def section(args: argparse.Namespace) -> Iterator[Row]:
        import numpy as np
        from step import jax_runner, networks, torch_runners

        from lsap_jax.spaces.sphere import retract

        steps, rounds = (1, 1) if args.tiny else (10, 3)
        size, base = (16, 64) if args.tiny else (resolution, channel_base)
        G, perceptual, backbone, lin = networks(size, base)
        work: dict[str, float] = {}
        for batch in range(1, len(batches) + 1) if args.tiny else batches:
            rng = np.random.default_rng(1)
            z = np.asarray(retract(rng.standard_normal((batch, G.num_ws, G.z_dim)).astype(np.float32)))
            targets = rng.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
            row: Row = {"px": size, "batch": batch}
            for name in variants:
                run, facts = jax_runner(G, perceptual, z, targets, steps, name)
                work = work or {unit: facts[unit] for unit in ("GFLOP", "GB")}
                timed = turns(run, rounds, batch * steps)
                yield row | {"variant": name} | timed | achieved(work, timed, args) | memory() | facts
                del run
            if torch and has_torch():
                for name, tf32 in (("scaled", False), ("grouped", False), ("scaled", True)):
                    allow_tf32(tf32)
                    run = torch_runners(G, backbone, lin, z, targets, steps, "")[f"torch {name}"]
                    timed = turns(run, rounds, batch * steps)
                    named = {"variant": f"torch {name}{', TF32' if tf32 else ''}"}
                    yield row | named | timed | achieved(work, timed, args)
                    del run

    return section


def turns(run: Callable[[], Any], rounds: int, images: int) -> Row:
    """Milliseconds per image-step, the median of some turns, and the mean loss after them; a first turn warms up."""
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        losses = run()
        times.append(1e3 * (time.perf_counter() - started) / images)
    return {"ms per image-step": sorted(times[1:])[rounds // 2], "loss": float(losses.mean())}


def achieved(work: dict[str, float], timed: Row, args: argparse.Namespace) -> Row:
    """The work of an image-step, by the compiler's account of the first variant, over its time and the ceilings."""
    per_second = {unit: 1e12 * amount / timed["ms per image-step"] for unit, amount in work.items()}
    limits = known_ceilings(args)
    return {
        "FLOP/s": per_second["GFLOP"],
        "of the float32 ceiling": per_second["GFLOP"] / limits["float32 highest FLOP/s"],
        "of the default ceiling": per_second["GFLOP"] / limits["float32 default FLOP/s"],
        "bytes/s": per_second["GB"],
        "of the copy's": per_second["GB"] / limits["bytes/s"],
    }


def memory() -> Row:
    """The most that JAX has taken so far."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return {"peak so far, GiB": stats["peak_bytes_in_use"] / 2**30} if "peak_bytes_in_use" in stats else {}


def has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def allow_tf32(value: bool) -> None:
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = value


def subjects(args: argparse.Namespace, count: int) -> tuple[Any, Any]:
    """A generator and `count` uint8 images for it."""
    import numpy as np

    import lsap_jax
    from lsap_jax.data import open_images
    from lsap_jax.data.bundled import sample_images
    from lsap_jax.testing import tiny_generator, tiny_images

    if args.tiny:
        return tiny_generator(basecode=True), tiny_images(count)
    G = lsap_jax.load_generator("toonhead64")
    source = open_images(sample_images(), resolution=G.img_resolution, channels=G.img_channels)
    return G, np.stack([source.load(i % len(source)).image for i in range(count)])


def independence(args: argparse.Namespace) -> Iterator[Row]:
    """Promise 1: the same images in batches of 1, 8 and 3; MSE within 1e-3, 99.9 % of the code within 1e-3."""
    import jax
    import numpy as np
    from independence import code_difference

    import lsap_jax
    from lsap_jax.configuration import load_config

    G, images = subjects(args, 3 if args.tiny else 8)
    steps, batches = (2, (1, 2)) if args.tiny else (30, (1, 8, 3))
    precision = load_config("f/z+").compute.precision
    alone = None
    with compiled_in_full() if args.tiny else contextlib.nullcontext():
        for batch in batches:
            started = time.perf_counter()
            inv = lsap_jax.invert(G, images, "f/z+", steps, batch_size=batch * len(jax.local_devices()))
            took = {
                "precision": precision,
                "batch": batch,
                "steps": steps,
                "seconds, compilation included": time.perf_counter() - started,
            }
            alone = alone or inv
            mse = float(np.abs(inv.metrics["mse"] / alone.metrics["mse"] - 1).max())
            for key, code in inv.codes.items():
                share, largest = code_difference(code, alone.codes[key])
                names = ("MSE, relative difference", "share of the code within 1e-3", "largest difference")
                yield took | {"code": key} | dict(zip(names, (mse, share, largest), strict=True))


@contextlib.contextmanager
def compiled_in_full() -> Iterator[None]:
    """Programs in this context are a user's. `--tiny` leaves optimisations out of the others, and the last digits of an
    image may then depend on its batch.
    """
    import jax

    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, False)
    jax.clear_caches()
    try:
        yield
    finally:
        jax.config.update(name, before)
        jax.clear_caches()


def encode(args: argparse.Namespace) -> Iterator[Row]:
    """Images per second of `encode`: encoder, losses, pictures and metrics, from and to arrays of the host."""
    import lsap_jax
    from lsap_jax.testing import colour_encoder

    G, images = subjects(args, 4 if args.tiny else 256)
    E = colour_encoder(G) if args.tiny else None
    for batch in (2,) if args.tiny else (32, 1):
        some = images if batch > 1 else images[:32]
        lsap_jax.encode(G, E, some[:batch], batch_size=batch)
        started = time.perf_counter()
        lsap_jax.encode(G, E, some, batch_size=batch)
        yield {"batch": batch, "images": len(some), "images/s": len(some) / (time.perf_counter() - started)} | memory()


def auto(args: argparse.Namespace) -> Iterator[Row]:
    """`--batch_size auto`: the batch that it finds, and three steps of it."""
    import lsap_jax
    from lsap_jax.configuration import load_config
    from lsap_jax.inversion.inverter import Inverter
    from lsap_jax.inversion.memory import largest_batch

    most = 4 if args.tiny else 1024
    G, images = subjects(args, most)
    started = time.perf_counter()
    found = largest_batch(Inverter(G, load_config("f/z+", {"steps": 3})), most)
    yield {"largest batch": found, "asked for": most, "seconds": time.perf_counter() - started}
    lsap_jax.invert(G, images[:found], "f/z+", 3, batch_size=found)
    yield {"steps of that batch": 3} | memory()


# Name, seconds that it takes on an H200 (from "step, 1024 px" on at a guess), and what it does; in the order of
# importance. Most of the time goes into choosing algorithms for convolutions. `--only` does what an earlier run left.
SECTIONS: list[tuple[str, float, Callable[[argparse.Namespace], Iterator[Row]]]] = [
    ("device", 4, device),
    ("ceilings", 12, ceilings),
    ("parity", 10, parity),
    ("verify", 7, verify),
    ("precision and step, 256 px", 90, step(256, 16384, (8,), ("jax", "jax high", "jax default"), torch=True)),
    ("independence", 45, independence),
    ("step, 1024 px", 90, step(1024, 32768, (4,), ("jax", "jax high"), torch=True)),
    ("encode", 20, encode),
    ("step by batch, 256 px", 30, step(256, 16384, (1, 32), ("jax",), torch=True)),
    ("auto", 30, auto),
    ("step, 512 px", 30, step(512, 32768, (8,), ("jax",), torch=True)),
    ("bfloat16, 1024 px", 20, step(1024, 32768, (16, 4), ("jax half",), torch=False)),
]
