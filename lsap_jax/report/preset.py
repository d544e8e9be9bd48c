"""The preset that a run was started with, and what was changed of it, for the head of a page."""

from collections.abc import Mapping

from lsap_jax.configuration import config_names, filled, flat, load_config, preset_name
from lsap_jax.errors import LsapError
from lsap_jax.report.fragments import as_text
from lsap_jax.storage.results import mapping

SHOWN_ELSEWHERE = ("seed", "batch_size", "refine.")
MOST = 3  # changes that are named one by one


def preset_of(run: Mapping) -> str:
    """As "f/z+:code, steps=100", from what run.json records; "" where it records no preset."""
    name = run.get("preset")
    if not isinstance(name, str) or not name:
        return ""
    changed = _changes(name, mapping(run.get("config")))
    if len(changed) > MOST:
        return f"{name}, {len(changed)} keys changed"
    return ", ".join([name, *(f"{key}={as_text(value)}" for key, value in changed.items())])


def _changes(name: str, config: Mapping) -> dict[str, object]:
    """What a run's configuration has other than the packaged one of that name; nothing of a file of the user's."""
    if not config or preset_name(name) not in config_names():
        return {}
    try:
        there, own = (flat(filled(one)) for one in (load_config(name).to_dict(), config))
    except (LsapError, TypeError, AttributeError):  # a folder from elsewhere
        return {}
    return {
        key: value
        for key, value in own.items()
        if not key.startswith(SHOWN_ELSEWHERE) and as_text(value) != as_text(_listed(there.get(key)))
    }


def _listed(value: object) -> object:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value
