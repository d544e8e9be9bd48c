"""Generators from files: bundled ones, converted ones, and official checkpoints converted on the fly."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import (
    BasecodeEncoder,
    Discriminator,
    Generator,
    LatentEncoder,
    Params,
    discriminator_shapes,
    generator_shapes,
)
from lsap_jax.networks import basecode, discriminator, latent_encoder, stylegan2
from lsap_jax.networks.parameters import params_from_canonical
from lsap_jax.storage import weights_file

GENERATORS = ("toonhead64",)  # other assets are safetensors, too: their classifier, their directions, MTCNN


def bundled() -> dict[str, Path]:
    """Name -> file of the generators inside the package."""
    folder = Path(str(resources.files("lsap_jax") / "assets"))
    return {name: path for name in GENERATORS if (path := folder / f"{name}.safetensors").is_file()}


def load_generator(source: str | Path) -> Generator:
    """A bundled generator by name, a converted file, or an official checkpoint converted on the fly.

    Args:
        source: "toonhead64", the path of a file written by `Generator.save`, or of a .pkl, .pt or .pth that
            `convert_weights` reads.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, or it holds something else; says what to do.
    """
    names = bundled()
    path = names.get(str(source), Path(source))
    if not path.is_file():
        raise LsapError(f"{source}: neither a file nor a bundled generator ({', '.join(names) or 'none here'})")
    if weights_file.is_weights_file(path):
        return from_file(path).replace(source=str(path))
    from convert_weights import read

    return from_checkpoint(read(path)).replace(source=str(path))


def from_file(path: str | Path) -> Generator:
    """Generator of a file written by `Generator.save`; digests checked."""
    kind, arrays, config, provenance = weights_file.read_weights(path)
    if kind != "generator":
        raise LsapError(f"{path}: holds {kind!r} weights, not a generator")
    tree = unflatten_dict({tuple(name.split("/")): a for name, a in arrays.items()})
    try:
        generator = Generator(
            config=stylegan2.GeneratorConfig(**_tuples(config["generator"])),
            params=tree["generator"],
            provenance_json=_json(provenance),
            discriminator=Discriminator(
                config=discriminator.DiscriminatorConfig(**_tuples(config["discriminator"])),
                params=tree["discriminator"],
            )
            if "discriminator" in config
            else None,
            basecode=BasecodeEncoder(
                config=basecode.BasecodeConfig(**_tuples(config["basecode"])), variables=tree["basecode"]
            )
            if "basecode" in config
            else None,
            encoder=LatentEncoder(
                config=latent_encoder.LatentEncoderConfig(**_tuples(config["encoder"])), variables=tree["encoder"]
            )
            if "encoder" in config
            else None,
        )
    except (KeyError, TypeError) as error:
        raise LsapError(
            f"{path}: its header and its tensors do not belong together ({error}); convert the original again"
        ) from error
    _check(generator, path)
    return generator


def _check(generator: Generator, path: str | Path) -> None:
    """The tensors of a file have the shapes that its configuration asks for."""
    shapes = {"generator": generator_shapes(generator.config)}
    if generator.discriminator is not None:
        shapes["discriminator"] = discriminator_shapes(generator.discriminator.config)
    if generator.basecode is not None:
        shapes["basecode"] = basecode.variable_shapes(generator.basecode.config)
    if generator.encoder is not None:
        shapes["encoder"] = latent_encoder.variable_shapes(generator.encoder.config)
    expected = _flat_shapes(shapes)
    found = {name: a.shape for name, a in generator.arrays().items()}
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong:
        name = wrong[0]
        raise LsapError(
            f"{path}: {name} is {found.get(name)}, its configuration asks for {expected.get(name)} "
            f"({len(wrong)} such); convert it again"
        )


def _flat_shapes(tree: Params) -> dict[str, tuple[int, ...]]:
    return {"/".join(path): tuple(leaf.shape) for path, leaf in flatten_dict(dict(tree)).items()}


def from_checkpoint(checkpoint: Any) -> Generator:
    """Generator of a `convert_weights.Checkpoint`: every tensor used once, every parameter filled.

    Raises:
        LsapError: the file holds something else than a StyleGAN2 generator, or tensors are missing, left over or of
            another shape.
    """
    if checkpoint.kind != "stylegan2":
        raise LsapError(f"this file holds {checkpoint.kind!r} weights ({checkpoint.format}), not a StyleGAN2 generator")
    config = stylegan2.GeneratorConfig(**_tuples(checkpoint.config["generator"]))
    arrays = checkpoint.arrays
    parts = {
        part: {n.split("/", 1)[1]: a for n, a in arrays.items() if n.startswith(f"{part}/")}
        for part in ("generator", "discriminator")
    }
    params = params_from_canonical(
        generator_shapes(config), parts["generator"], f"a {config.img_resolution}-px StyleGAN2 generator"
    )
    critic = None
    if "discriminator" in checkpoint.config:
        shape = discriminator.DiscriminatorConfig(**_tuples(checkpoint.config["discriminator"]))
        critic = Discriminator(
            config=shape,
            params=params_from_canonical(
                discriminator_shapes(shape), parts["discriminator"], f"a {shape.img_resolution}-px discriminator"
            ),
        )
    return Generator(config=config, params=params, discriminator=critic, provenance_json=_json(checkpoint.provenance))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True)


def _tuples(config: Mapping[str, Any]) -> dict[str, Any]:
    """JSON lists as tuples, all the way down: configurations are hashable."""

    def convert(value: Any) -> Any:
        return tuple(convert(v) for v in value) if isinstance(value, list | tuple) else value

    return {key: convert(value) for key, value in config.items()}
