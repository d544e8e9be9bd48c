"""Images to latent codes by one pass of an encoder.

usage: lsap-jax encode IMAGES ... --generator G --out DIR [--encoder FILE] [--refine METHOD] [--align]
                       [--class K|FILE.csv]

IMAGES and G are as for `lsap-jax invert`, and DIR becomes a run folder as there. The encoder is the one that comes with
G, or the one in FILE, which holds it alone or inside a generator: a file of `lsap-jax train-encoder` or `convert`, or
the original file of pSp, e4e, LSAP, ReStyle, HyperStyle, IDInvert. There are no optimisation steps, and a configuration
with steps is refused; to continue from the codes, use `lsap-jax invert --init DIR`, or `--encoder`. --refine adds what
the codes cannot represent; --masks and --config.refine.KEY=value are as for `lsap-jax refine`. Run the same command
again to finish an interrupted run.

Exit status: 0 all done, 1 some images failed (failures.jsonl says why), 2 unusable arguments, 130 after Ctrl-C, 143
after SIGTERM.
"""

from typing import TYPE_CHECKING

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, configuration, literal, new_flags, number, switch, text
from lsap_jax.cli.classes import EACH, class_flag
from lsap_jax.cli.computing import AUTO, choose_method, engine_flags, refine_flag, second_stage, without_method
from lsap_jax.cli.invert import embed, named_encoder
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.runs.run import NamedEncoder


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(values, "encoder", "a converted file or an original checkpoint (default: the encoder that comes with G)")
    refine_flag(values)
    text(values, "out", "folder of the run")
    text(values, "config", "name or file of a configuration (default: encode)")
    text(values, "batch_size", "short for --config.batch_size, over all devices; auto takes the largest that fits")
    number(values, "seed", "short for --config.seed")
    text(values, "perceptual", "LPIPS weights that `lsap-jax convert` wrote, to measure with")
    switch(values, "align", "short for --config.align: cut each picture to its face, as `lsap-jax align` does")
    class_flag(values, EACH.format("image"))
    engine_flags(values)
    return values


def run(args: Arguments) -> int:
    args.some("images")
    encoder = named_encoder(args.flags.encoder) if args.flags.encoder else None
    config = choose_config(without_method(args), encoder)
    args, method = choose_method(args, preset=second_stage(config))
    return embed(args, config, encoder, method, args.flags.config or "encode")


def choose_config(args: Arguments, encoder: "NamedEncoder | None") -> "ConfigDict":
    """The configuration of an encode: of 0 steps, in the space of the encoder's codes unless another one is named."""
    size = args.flags.batch_size
    config = configuration(
        args,
        "encode",
        {
            "seed": args.flags.seed,
            "batch_size": literal("batch_size", size, 1) if size and size != AUTO else None,
            "perceptual.weights": args.flags.perceptual,
            "align": args.flags.align if args.flags["align"].present else None,
        },
        key="space",
    )
    if config.steps or config.init.detail != "encoder":
        takes = f"takes {config.steps} steps" if config.steps else f"begins at init.detail={config.init.detail!r}"
        raise LsapError(
            f"configuration {args.flags.config or 'encode'}: {takes}, and encode takes the codes of an encoder as they "
            "are; use `lsap-jax invert`, with --encoder to begin at such codes"
        )
    if encoder is not None and args.flags.config is None and "space" not in args.config:
        config.space = encoder.encoder.codes
    return config
