"""Configurations by name or by file: `ml_collections` files in the package's `configs/`, overridden key by key."""

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lsap_jax import configs
from lsap_jax.configs._keys import KEYS
from lsap_jax.errors import LsapError


def config_folder() -> Path:
    """The folder of the packaged configurations: `configs/` of a checkout, or where they were installed."""
    return Path(configs.__path__[0])


def config_names() -> list[str]:
    """Names that `--config` takes."""
    return sorted(path.stem for path in config_folder().glob("*.py") if not path.stem.startswith("_"))


def preset_name(space: str) -> str:
    """Name of the configuration of a space or preset: "f/z+" is `f_zplus`, "f/z+:code" is `f_zplus_code`."""
    return space.replace("+", "plus").replace("/", "_").replace(":", "_")


def find_config(name: str | Path) -> Path:
    """The file of a configuration given by name, by space or by path.

    Raises:
        LsapError: no such configuration exists; the message lists the names.
    """
    if str(name).endswith(".py"):
        path = Path(name)
        if path.is_file():
            return path
    else:
        path = config_folder() / f"{preset_name(str(name))}.py"
        if path.is_file() and not path.stem.startswith("_"):
            return path
    near = nearest(preset_name(str(name)), config_names())
    hint = f"did you mean {near}? " if near else ""
    raise LsapError(f"{name}: {hint}it is neither a configuration file (.py) nor one of {', '.join(config_names())}")


def load_config(name: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The configuration `get_config()` of a named or given file, with dotted keys overridden.

    Args:
        name: "f_zplus", "f/z+", "f/z+:code" or the path of a .py file. A file is Python and is executed: use only
            files you trust.
        overrides: e.g. {"loss.perceptual": 5.0}; a value must have the type of what it replaces (an int may become a
            float).

    Raises:
        LsapError: no such configuration, an unknown key (the nearest are named) or a value of the wrong type.
    """
    path = find_config(name)
    spec = importlib.util.spec_from_file_location(f"lsap_jax_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return override(module.get_config(), overrides or {})


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """config with dotted keys replaced, in place; strict about keys and types."""
    known = flat(config)
    for key, value in overrides.items():
        if key not in known:
            raise LsapError(f"unknown configuration key {key!r}{_remedy(key, known)}")
        old = known[key]
        if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if old is not None and value is not None and not isinstance(value, type(old)):
            raise LsapError(
                f"{key}={value!r} is of type {type(value).__name__}; it needs {type(old).__name__}, as in {old!r}"
            )
        with config.ignore_type():
            config.update_from_flattened_dict({key: value})
    return config


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The key that was probably meant: one whose last part is the same, else one that is written alike."""
    known = sorted(known)
    named = [one for one in known if one.rpartition(".")[2] == key.rpartition(".")[2]]
    return next(iter(difflib.get_close_matches(key, named, 1, 0) or difflib.get_close_matches(key, known, 1)), None)


def explained(key: str) -> str:
    """What a key is, in one line; "" where it is not known, as in a configuration of one's own."""
    if key in KEYS:
        return KEYS[key]
    return next((text for pattern, text in KEYS.items() if "*" in pattern and fnmatchcase(key, pattern)), "")


def _remedy(key: str, known: Iterable[str]) -> str:
    """The end of a message about a key that is not known: the nearest, and those of its group."""
    near = nearest(key, known)
    group = sorted(one for one in known if "." in one and one.split(".")[0] == key.split(".")[0])
    hint = f"; did you mean {near}?" if near else ";"
    return f"{hint} there are {', '.join(group)}" if group else f"{hint} `lsap-jax config NAME` explains all keys"


def recorded(values: object) -> ConfigDict:
    """The inversion's configuration that a folder records; keys that its version did not have get their defaults, and
    those that this one does not have are left out.

    Raises:
        LsapError: not a configuration, or a value of the wrong type: the folder comes from elsewhere.
    """
    if not isinstance(values, Mapping):
        raise LsapError(f"config={values!r:.80}: the folder records no configuration; do not use it")
    config = load_config("f/z+")
    known = flat(config)
    given = {key: value for key, value in flat(values).items() if key in known}
    if nothing := [key for key, value in given.items() if value is None and known[key] is not None]:
        raise LsapError(f"config.{nothing[0]}=None: it needs {type(known[nothing[0]]).__name__}")
    return override(config, given)


def filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run records of its configuration, nothing left out; what it does not know, as it is older, has today's
    defaults. A new key's default is what was done before there was the key.
    """
    return _filled(config, load_config("f/z+").to_dict())


def _filled(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    groups = {key: value for key, value in defaults.items() if isinstance(value, Mapping)}
    own = {k: _filled(v, groups.get(k, {})) if isinstance(v, Mapping) else v for k, v in values.items()}
    return {**own, **{key: value for key, value in defaults.items() if key not in values}}


def flat(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            found |= {f"{key}.{k}": v for k, v in flat(value).items()}
        else:
            found[key] = value
    return found
