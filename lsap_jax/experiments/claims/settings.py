"""The settings of a claim, checked before anything runs."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lsap_jax.configuration import load_config, override
from lsap_jax.errors import LsapError
from lsap_jax.experiments.claims.verdict import EDITS, PARTS
from lsap_jax.experiments.comparison.plan import pairs
from lsap_jax.experiments.edit_quality.settings import check_settings

KEYS = ("statement", "candidate", "baseline", "margin", "level", "strength", "success", "weights")
OPTIONAL = {"parts": PARTS, "measures": EDITS}  # what a claim may be about, and is without them


def edits_config(config: ConfigDict) -> ConfigDict | None:
    """The configuration of the edits that a comparison's configuration asks for; None where it asks for none.

    Raises:
        LsapError: there is no such configuration, it belongs to another command, or a value is out of its range.
    """
    if not config.edits:
        return None
    found = load_config(config.edits)
    if "toggle" not in found:
        raise LsapError(f"edits={config.edits!r}: this configuration belongs to another command, as it has no 'toggle'")
    override(found, dict(pairs("edit_overrides", config.edit_overrides)))
    check_settings(found)
    return found


def weighed(claim: Mapping[str, Any]) -> list[tuple[float, str]]:
    """(weight of the term, method) of a claim's chart.

    Raises:
        LsapError: not pairs.
    """
    return [(float(weight), name) for weight, name in pairs("claim.weights", claim["weights"], (int, float))]


def claims_of(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The claims of a comparison's configuration by name: `claim`, whose name is "", where it has a candidate, and each
    of `claims`, with the settings of `claim` that it does not have.
    """
    claim = config["claim"]
    own = {"": claim} if claim and claim["candidate"] else {}
    return own | {name: {**claim, **one} for name, one in (config.get("claims") or {}).items()}


def check_claim(config: ConfigDict, labels: list[str]) -> None:
    """Raises LsapError where a claim lacks a key, or names a method that is not compared.

    Args:
        labels: what tables call the presets.
    """
    if config.claims and not config.claim:
        raise LsapError("claims: need the settings that all share in claim; start from the configuration all_methods")
    if not config.claim:
        return
    for name, one in {"": config.claim, **claims_of(config.to_dict())}.items():
        _check_one(f"claims.{name}" if name else "claim", one, labels)
    edits, strength = edits_config(config), config.claim.strength
    if edits is not None and strength is not None and strength not in tuple(edits.strengths):
        raise LsapError(f"claim.strength={strength:g}: is not among the strengths of {config.edits}")


def _check_one(called: str, claim: Mapping[str, Any], labels: list[str]) -> None:
    if missing := [key for key in KEYS if key not in claim]:
        raise LsapError(f"{called}: {', '.join(missing)} is missing; start from the configuration lsap_claims")
    named = [*claim["candidate"], *claim["baseline"], *(name for _, name in weighed(claim))]
    if bool(claim["candidate"]) != bool(claim["baseline"]):
        raise LsapError(f"{called}: candidate and baseline belong together; give both, or () for both to judge nothing")
    if unknown := [name for name in named if name not in labels]:
        raise LsapError(f"{called}: {unknown[0]!r} is not among the presets: {', '.join(labels)}")
    for key, known in OPTIONAL.items():
        if wrong := [one for one in claim.get(key, known) if one not in known]:
            raise LsapError(f"{called}.{key}: {wrong[0]!r} is not one of {', '.join(known)}")
    for key, least, most in (("margin", 0, 1), ("level", 0, 1), ("success", 0, 1)):
        if not least < claim[key] < most:
            raise LsapError(f"{called}.{key}={claim[key]}: must be between {least} and {most}")
