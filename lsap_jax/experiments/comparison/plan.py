"""What is compared: the configuration of `lsap-jax compare` as one inversion per preset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lsap_jax.configuration import load_config, preset_name
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import even_size
from lsap_jax.inversion.settings import check, make_problem
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import space_from_config


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One inversion of a comparison.

    Attributes:
        preset: what tables call it: the name or space it was asked by, of a file the name without folder and suffix.
        folder: name of its run folder.
        config: of the run.
    """

    preset: str
    folder: str
    config: ConfigDict


def make_plans(config: ConfigDict) -> list[Plan]:
    """The inversions of a comparison's configuration, in order; see configs/compare.py for its keys.

    Raises:
        LsapError: no preset, an unknown preset, a preset given twice or not of an inversion, targets that differ
            between presets, an unknown key or a wrong type among the overrides, a negative margin.
    """
    if not config.presets:
        raise LsapError("presets is empty; name at least one, as in --presets=z,f/z+")
    _check_tests(config)
    plans: dict[str, Plan] = {}
    for preset in config.presets:
        if not isinstance(preset, str):
            raise LsapError(f"presets: {preset!r} is not a name; write presets as --presets=z,f/z+")
        folder = folder_name(preset)
        if folder in plans:
            raise LsapError(f"presets {plans[folder].preset!r} and {preset!r} would share the folder {folder!r}")
        plans[folder] = Plan(preset=label(preset), folder=folder, config=inversion_config(preset, config))
    for key in ("fit", "align"):
        values = {plan.config[key]: plan.preset for plan in plans.values()}
        if len(values) > 1:
            values_text = ", ".join(f"{value!r} of {preset}" for value, preset in values.items())
            raise LsapError(
                f"{key} differs between the presets ({values_text}), and so would their targets; override it for all"
            )
    return list(plans.values())


def label(preset: str) -> str:
    """What tables call a preset: "f/z+" as it is, "configs/mine.py" is "mine"."""
    return Path(preset).stem if preset.endswith(".py") else preset


def folder_name(preset: str) -> str:
    """Run folder of a preset inside the comparison's: `f_zplus` of "f/z+", `mine` of "configs/mine.py"."""
    # A name without dots cannot collide with the comparison's own files.
    return preset_name(label(preset)).replace(".", "_")


def inversion_config(preset: str, config: ConfigDict) -> ConfigDict:
    """The configuration of one preset with what the comparison sets for all of them.

    Raises:
        LsapError: see `make_plans`.
    """
    found = load_config(preset)
    if "space" not in found:
        raise LsapError(f"preset {preset!r}: this configuration belongs to another command, as it has no 'space'")
    values = dict(_pairs(config.overrides))
    values |= {"seed": config.seed, "batch_size": config.batch_size}
    if config.steps:
        values["steps"] = config.steps
    files = {"perceptual.weights": "perceptual", "init.basecode": "basecode", "init.pnorm": "pnorm"}
    values |= {key: config[name] for key, name in files.items() if config[name]}
    return load_config(preset, values)


def fill_batches(plans: Sequence[Plan], images: int) -> None:
    """Makes batches as even as `run` has them, which knows the images of one preset alone."""
    for plan in plans:
        plan.config.batch_size = even_size(plan.config.batch_size, images)


def check_plans(plans: Sequence[Plan], G: Generator) -> None:
    """Raises LsapError if a preset does not fit the generator, before the first preset runs for hours."""
    for plan in plans:
        try:
            check(plan.config)
            make_problem(plan.config, space_from_config(plan.config, G))
        except LsapError as error:
            raise LsapError(f"preset {plan.preset!r}: {error}") from error


def _pairs(overrides: Sequence[Any]) -> list[tuple[str, Any]]:
    """Overrides as pairs; a single pair needs no second pair of brackets.

    Raises:
        LsapError: not pairs of a key and a value.
    """
    pairs = [overrides] if len(overrides) == 2 and isinstance(overrides[0], str) else list(overrides)
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise LsapError(f"overrides: {pair!r} is not a pair; write (('optimizer.lr', 0.05), ('chunk', 25))")
    return [(key, value) for key, value in pairs]


def _check_tests(config: ConfigDict) -> None:
    for key in ("absolute", "relative"):
        if not config.test[key] >= 0:
            raise LsapError(f"test.{key}={config.test[key]}: a margin must be 0 or more")
    if not 0 < config.test.level < 1:
        raise LsapError(f"test.level={config.test.level}: must be a probability between 0 and 1")
    if config.grid < 0:
        raise LsapError(f"grid={config.grid}: a number of images, 0 or more, is needed")
