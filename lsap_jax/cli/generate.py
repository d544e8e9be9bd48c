"""Samples of a generator, by seed.

usage: lsap-jax generate --generator G --seeds 0-15 --out DIR [--class K|FILE.csv] [--truncation_psi X]

z of seed s is `numpy.random.RandomState(s).randn(z_dim)`, as in NVlabs' generate.py, so a seed gives the same picture
as there. The command writes seedNNNN.png per seed, and grid.png. A conditional generator needs --class: a number for
all pictures, as in generate.py, or FILE.csv of id,class with a line for each seed, whose id is its number.
"""

import re
from pathlib import Path

import numpy as np
from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, number, real, text
from lsap_jax.cli.classes import EACH, chosen_classes, class_flag
from lsap_jax.errors import LsapError

MOST_SEEDS = 100_000
GRID_SEEDS = 256


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(values, "seeds", "numbers and ranges, such as 0-15 or 1,5,10-20", "0-15")
    text(values, "out", "folder for the pictures")
    real(values, "truncation_psi", "1 is no truncation, 0 the mean face", 1.0)
    class_flag(values, EACH.format("seed"))
    number(values, "batch_size", "images at a time", 8, lower=1)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.models.classes import no_class
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.rendering.samples import draw
    from lsap_jax.storage.pictures import grid, save_png

    args.no_config()
    args.only()
    out, seeds = Path(args.required("out")), parse_seeds(args.flags.seeds)
    G = load_generator(args.required("generator"))
    labels = chosen_classes(args, G, [str(seed) for seed in seeds])
    if G.c_dim and labels is None:
        raise no_class(G.c_dim, "samples")
    kept: list[np.ndarray] = []
    size = args.flags.batch_size
    for start in range(0, len(seeds), size):
        some = seeds[start : start + size]
        c = None if labels is None else np.stack([labels[str(seed)] for seed in some])
        images = draw(G, some, args.flags.truncation_psi, size, c)
        for seed, image in zip(some, images, strict=True):
            save_png(out / f"seed{seed:04d}.png", image)
            if len(kept) < GRID_SEEDS:
                kept.append(image)
    path = save_png(out / "grid.png", grid(np.stack(kept)))
    note = f" (the first {GRID_SEEDS})" if len(seeds) > GRID_SEEDS else ""
    print(f"{len(seeds)} images in {out}; all of them in {path}{note}")
    return 0


def parse_seeds(text: str) -> list[int]:
    """ "1,5,10-12" as [1, 5, 10, 11, 12], each once.

    Raises:
        LsapError: the text is not a list of seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= 2**32:
            raise LsapError(
                f"--seeds={text}: {part!r} is not a seed; write numbers from 0 to 4294967295 and ranges, as in 0-15,20"
            )
        if last - first >= MOST_SEEDS or len(seeds) > MOST_SEEDS:
            raise LsapError(f"--seeds={text}: more than {MOST_SEEDS} images; generate them in several commands")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)
