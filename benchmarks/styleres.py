"""Images per second that StyleRes encodes and edits, beside our PyTorch form of it.

    python benchmarks/styleres.py [--size small|ffhq] [--batch 1 32] [--rounds 5] [--no-torch]

One image is one pass of the encoder, one pass of the generator up to the layer that is added to, and one whole pass for
the edited code. `small` is the bundled generator with its encoder and networks of 16 px and 72 channels, `ffhq` has
the true shapes of the authors' files: 1024 px, IR-SE50 at 256 px, networks of 64 px and 512 channels. Weights that no
file gives are random, the same on both sides; the images of both are compared, and the sides take turns.
"""

import argparse
import os
from collections.abc import Callable

import encode
import numpy as np

STEP = 0.5  # of the edit, in every number of ws


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("small", "ffhq"), default="small")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=5, help="turns per variant")
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


def networks(size: str):
    """(generator, encoder, StyleRes' networks), random where the package has none."""
    import jax

    import lsap_jax
    from lsap_jax.models.generator import Generator
    from lsap_jax.models.styleres import StyleRes
    from lsap_jax.networks.families import initial_params
    from lsap_jax.networks.stylegan2 import GeneratorConfig
    from lsap_jax.networks.styleres import StyleResConfig, param_shapes
    from lsap_jax.training.initial import initial_params as drawn

    if size == "small":
        G = lsap_jax.load_generator("toonhead64")
        E = G.parts["psp"]
        config = StyleResConfig(resolution=16, channels=G.config.channels[2], encoder_channels=48, tap=3, width=72)
    else:
        channels = tuple(min(32768 // (4 << i), 512) for i in range(9))
        own = GeneratorConfig(img_resolution=1024, channels=channels)
        G = Generator(config=own, params=jax.jit(initial_params, static_argnums=0)(own, jax.random.key(0)))
        E, config = encode.encoder(G.num_ws, 256), StyleResConfig()
    return G, E, StyleRes(config=config, params=drawn(param_shapes(config), 0))


def jax_runner(G, E, networks) -> Callable[[np.ndarray], np.ndarray]:
    """As the commands compute it: image by image on CPUs, the whole batch on accelerators."""
    import jax
    import jax.numpy as jnp

    from lsap_jax.networks.image_by_image import images_at_once, in_groups
    from lsap_jax.rendering.transforms import GatedAddition

    layer = networks.layer(G.config)
    G = G.bare().with_part("styleres", networks)

    def some(models, images):
        G, E = models
        ws, c = E.with_unit(images, G.parts["styleres"].config.tap)
        residual = G.parts["styleres"].residual(c, G.features(ws)[1][layer.name])
        mask = jnp.ones((*residual.shape[:3], 1))
        kept = {layer.name: GatedAddition(residual=residual, mask=mask)}
        return jnp.clip(G.synthesis(ws + STEP, transforms=kept), -1, 1)

    @jax.jit
    def run(models, images, live):
        size = images_at_once(jax.local_devices())
        return in_groups(size, live, lambda one: some(models, one), images)

    models = jax.tree.map(jnp.asarray, (G, E))
    return lambda images: np.asarray(run(models, images, np.ones(len(images), bool)))


def compare(args: argparse.Namespace) -> None:
    G, E, own = networks(args.size)
    runs = {"jax": jax_runner(G, E, own)}
    if args.torch:
        import torch_styleres as other

        for name, last in (("torch", False), ("torch, channels last", True)):
            network = other.StyleRes(G, E, own, own.layer(G.config).name, last)
            runs[name] = lambda images, network=network: network(images, STEP).numpy().transpose(0, 2, 3, 1)
    rows = []
    for batch in args.batch:
        shape = (batch, E.view.height, E.view.width, 3)
        images = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
        runners = {name: lambda run=run, images=images: run(images) for name, run in runs.items()}
        found = {name: one() for name, one in runners.items()}  # warms up
        for name, pictures in found.items():
            print(f"batch {batch}, {name}: off by {np.abs(pictures - found['jax']).max():.1e}")
        rows += encode.rows_of(batch, encode.measured(runners, args.rounds))
    encode.print_table(rows, args.rounds)


def main() -> None:
    args = arguments()
    versions = encode.versions(args)
    print(f"{versions}; load of the machine {os.getloadavg()[0]:.1f}")
    compare(args)


if __name__ == "__main__":
    main()
