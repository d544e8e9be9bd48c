"""`python -m lsap_jax`: the command line under its module's name."""

import sys

from lsap_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
