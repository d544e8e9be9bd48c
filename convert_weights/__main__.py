"""`python -m convert_weights SRC DST` converts an official checkpoint to a file that lsap_jax loads, with numpy alone.

The file is byte for byte the one that `lsap-jax convert` writes; that command also renders samples and joins encoders
to generators.
"""

import argparse
import sys
from pathlib import Path

from convert_weights import ConversionError, read
from convert_weights.checkpoint import printable
from convert_weights.convert import completed, description, halved, save, written


def main(argv: list[str] | None = None) -> int:
    """Convert SRC to DST; return 0, or 2 if SRC cannot be converted or DST cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m convert_weights",
        description="Convert an official checkpoint, recognised by its content, without running anything inside it.",
    )
    parser.add_argument("source", metavar="SRC", type=Path)
    parser.add_argument("target", metavar="DST", type=Path)
    parser.add_argument("--lin", type=Path, help="lin weights of LPIPS for the backbone in SRC")
    parser.add_argument(
        "--base_resolution",
        type=int,
        default=16,
        help="resolution of the base code f of a BDInvert encoder (default: 16)",
    )
    parser.add_argument(
        "--only",
        metavar="PART",
        help="convert one part of SRC alone: generator, encoder, latent_discriminator or discriminator",
    )
    parser.add_argument("--half", action="store_true", help="store the weights in half precision; not of generators")
    args = parser.parse_args(argv)
    try:
        return _convert(args)
    except ConversionError as error:
        print(printable(f"convert_weights: {error}"), file=sys.stderr)
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error}); name another file"
        print(printable(f"convert_weights: {args.target}: {reason}"), file=sys.stderr)
    return 2


def _convert(args: argparse.Namespace) -> int:
    source, target = args.source, args.target
    if target.exists() and source.exists() and target.samefile(source):
        raise ConversionError(f"{target}: is the source itself; name the file to write")
    checkpoint = read(source)
    print(*description(checkpoint), sep="\n")
    lin = None
    if args.lin is not None:
        lin = read(args.lin)
        print(*description(lin), sep="\n")
    try:
        ready = completed(checkpoint, lin, args.base_resolution, args.only)
        ready = halved(ready) if args.half else ready
    except ConversionError as error:
        raise ConversionError(f"{source}: {error}") from None
    print(written(target, save(target, ready, source)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
