"""A trained encoder as it is kept in benchmarks/encoders: named files instead of the folders where its data were.

    python benchmarks/keep_encoder.py runs/encoders/e4e_1/encoder.safetensors benchmarks/encoders/e4e_1.safetensors

`make encoders` does so with each of them.
"""

import argparse

from lsap_jax.models.network_file import read, save
from lsap_jax.training.assets import without_places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trained")
    parser.add_argument("kept")
    args = parser.parse_args()
    found = read(args.trained)
    made = {key: value for key, value in found.provenance.items() if not key.startswith("sha256")}
    save(args.kept, found.build("psp"), without_places(made))


if __name__ == "__main__":
    main()
