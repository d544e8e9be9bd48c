"""What is compared: the configuration of `lsap-jax compare` as one inversion per preset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from convert_weights import ConversionError
from lsap_jax.configuration import load_config, preset_name
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import even_size
from lsap_jax.inversion.settings import check, make_problem, start_from_config
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load_encoder
from lsap_jax.runs.run import NamedEncoder
from lsap_jax.spaces import space_from_config

AT = "@"  # between a preset and the file of its encoder
EDITS = "edits"  # folder of the quality of edits inside a comparison's


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One inversion of a comparison, or the refinement of one.

    Attributes:
        preset: what tables call it, see `label`.
        folder: name of its run folder.
        config: of the run.
        encoder: file of the encoder that its codes start from; "" is the generator's own, where it starts from one.
        method, options: of refinement; "" is none.
        weights: file of the method's networks; "" is those that come with the generator.
        first: folder of the inversion that is refined.
    """

    preset: str
    folder: str
    config: ConfigDict
    encoder: str = ""
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    first: str = ""

    @property
    def told(self) -> str:
        """What is done to the images."""
        what = f"into {self.config.space}, {self.config.steps} steps"
        return f"of {self.first} refined by {self.method}" if self.method else what

    def loaded(self) -> NamedEncoder | None:
        """The encoder in the file.

        Raises:
            LsapError, ConversionError: there is no such file, it is damaged, or there is no encoder in it.
        """
        return NamedEncoder(self.encoder, load_encoder(self.encoder)) if self.encoder else None


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
        if folder == EDITS:
            raise LsapError(f"preset {preset!r}: its folder {EDITS!r} is that of the quality of edits; rename the file")
        if folder in plans:
            raise LsapError(f"presets {plans[folder].preset!r} and {preset!r} would share the folder {folder!r}")
        plans[folder] = Plan(
            preset=label(preset),
            folder=folder,
            config=inversion_config(preset, config),
            encoder=encoder_file(preset, config.encoders),
        )
    for key in ("fit", "align"):
        values = {plan.config[key]: plan.preset for plan in plans.values()}
        if len(values) > 1:
            values_text = ", ".join(f"{value!r} of {preset}" for value, preset in values.items())
            raise LsapError(
                f"{key} differs between the presets ({values_text}), and so would their targets; override it for all"
            )
    return list(plans.values())


def label(preset: str) -> str:
    """What tables call a preset: "f/z+" as it is, "configs/mine.py" is "mine", and a preset with an encoder,
    "e4e@encoders/e4e_1.safetensors", goes by the encoder's file: "e4e_1".
    """
    own, _, encoder = preset.partition(AT)
    if encoder:
        return Path(encoder).stem
    return Path(own).stem if own.endswith(".py") else own


def encoder_file(preset: str, folder: str) -> str:
    """The file after the @ of a preset, in the folder where it is a relative one; "" without an @."""
    encoder = preset.partition(AT)[2]
    return str(Path(folder) / encoder) if encoder else ""


def folder_name(preset: str) -> str:
    """Run folder of a preset inside the comparison's: `f_zplus` of "f/z+", `mine` of "configs/mine.py"."""
    # A name without dots cannot collide with the comparison's own files; the folder of edits is refused.
    return preset_name(label(preset)).replace(".", "_")


def inversion_config(preset: str, config: ConfigDict) -> ConfigDict:
    """The configuration of one preset with what the comparison sets for all of them.

    Raises:
        LsapError: see `make_plans`.
    """
    own, at, encoder = preset.partition(AT)
    if at and not encoder:
        raise LsapError(f"preset {preset!r}: name the file of an encoder after the @, or leave it out")
    found = load_config(own)
    if "space" not in found:
        raise LsapError(f"preset {preset!r}: this configuration belongs to another command, as it has no 'space'")
    values = dict(pairs("overrides", config.overrides))
    if encoder:  # as `invert --encoder` has it
        values["init.detail"] = "encoder"
    values |= {"seed": config.seed, "batch_size": config.batch_size}
    if config.steps:
        values["steps"] = config.steps
    elif config.most_steps:
        values["steps"] = min(config.most_steps, values.get("steps", found.steps))
    files = {"perceptual.weights": "perceptual", "init.basecode": "basecode", "init.pnorm": "pnorm"}
    values |= {key: config[name] for key, name in files.items() if config[name]}
    return load_config(own, values)


def fill_batches(plans: Sequence[Plan], images: int) -> None:
    """Makes batches as even as `run` has them, which knows the images of one preset alone."""
    for plan in plans:
        plan.config.batch_size = even_size(plan.config.batch_size, images)


def check_plans(plans: Sequence[Plan], G: Generator, leave_out: bool = False) -> tuple[list[Plan], list[str]]:
    """The plans whose preset fits the generator, told before the first preset runs for hours, and a line for each that
    does not; refinements are looked at by `cells.that_fit`.

    Raises:
        LsapError: a preset does not fit, unless such are left out; or none does.
    """
    lines, kept, gone = [], [], set()
    for plan in plans:
        try:
            if not plan.method:
                _check(plan, G)
        except (ConversionError, LsapError) as error:
            if not leave_out:
                raise LsapError(f"preset {plan.preset!r}: {error}") from error
            gone.add(plan.folder)
            lines.append(f"{plan.preset} is left out: {error}")
        else:
            if plan.first in gone:
                lines.append(f"{plan.preset} is left out: its codes are")
            else:
                kept.append(plan)
    if not kept:
        raise LsapError(f"no preset is left: {lines[0]}")
    return kept, lines


def _check(plan: Plan, G: Generator) -> None:
    """Raises LsapError, ConversionError if an inversion does not fit the generator."""
    encoder = plan.loaded()
    own = G if encoder is None else with_encoder(G, encoder.encoder)
    check(plan.config)
    start_from_config(plan.config, own)
    make_problem(plan.config, space_from_config(plan.config, own))


def pairs(name: str, given: Sequence[Any], first: type | tuple[type, ...] = str) -> list[tuple[Any, Any]]:
    """The pairs that a key of a configuration holds, as ("optimizer.lr", 0.05); a single pair needs no second pair of
    brackets.

    Args:
        name: of the key.
        first: types of what stands first in each.

    Raises:
        LsapError: they are not pairs.
    """
    found = [given] if len(given) == 2 and isinstance(given[0], first) else list(given)
    for pair in found:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], first):
            example = "(('optimizer.lr', 0.05), ('chunk', 25))" if first is str else "((0.5, 'a'), (1.0, 'b'))"
            raise LsapError(f"{name}: {pair!r} is not a pair; write {example}")
    return [(key, value) for key, value in found]


def _check_tests(config: ConfigDict) -> None:
    for key in ("absolute", "relative"):
        if not config.test[key] >= 0:
            raise LsapError(f"test.{key}={config.test[key]}: a margin must be 0 or more")
    if not 0 < config.test.level < 1:
        raise LsapError(f"test.level={config.test.level}: must be a probability between 0 and 1")
    for key, what in (("grid", "images"), ("count", "images"), ("most_steps", "steps")):
        if config[key] < 0:
            raise LsapError(f"{key}={config[key]}: a number of {what}, 0 or more, is needed")
