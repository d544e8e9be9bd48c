"""`python -m convert_weights SRC DST`: the `convert` command of lsap_jax under another name."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Forwards to `lsap-jax convert`; the import waits until here so that this package alone never needs jax."""
    from lsap_jax.cli import main as command_line

    return command_line(["convert", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
