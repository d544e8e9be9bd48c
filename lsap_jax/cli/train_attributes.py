"""Train a classifier of an archive's labels, to judge edits of a generator's images.

usage: lsap-jax train-attributes ARCHIVE.npz --out FILE [--config NAME|FILE] [--config.key=value ...]

ARCHIVE holds `images`, uint8 [N, R, R, C], and an array `label_NAME` of N texts per label. The last images are held
out; FILE holds the weights, the accuracy of each label on the held-out images, and the attributes with two sides that
the configuration defines.
"""

from pathlib import Path

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, configuration, new_flags, number, text


def flags() -> FlagValues:
    values = new_flags()
    text(values, "config", "name or file of a training configuration", "attributes_toonhead64")
    text(values, "out", "file of the classifier, .safetensors")
    number(values, "seed", "short for --config.seed")
    return values


def run(args: Arguments) -> int:
    (archive,) = args.only("ARCHIVE.npz")
    out = Path(args.required("out"))
    config = configuration(args, "attributes_toonhead64", {"seed": args.flags.seed}, key="augment")
    from lsap_jax.storage.weights_file import check_writable
    from lsap_jax.training.attributes import train_attributes

    check_writable(out)
    train_attributes(config, archive, out)
    print(out)
    return 0
