"""edit.json: what a folder of edits records, read from folders of any version and of anyone."""

from collections.abc import Mapping
from pathlib import Path

from lsap_jax.errors import LsapError
from lsap_jax.storage.matching import Fields, Layout, check_fields
from lsap_jax.storage.results import Record, read_run

EDIT = Layout("edit.json", "lsap_jax edit 2", "edit")
_TEXT_OR_NONE, _NUMBER = (str, type(None)), (int, float)
_FIELDS: Fields = {
    **{"space": str, "run": dict, "run.name": str, "run.config": dict, "series": list, "series.*.name": str},
    **{"series.*.only": _TEXT_OR_NONE, "series.*.labels": list, "series.*.labels.*": str, "series.*.sha256": str},
    **{"generator": dict, "generator.name": str, "generator.sha256": str, "generator.img_resolution": int},
}
_OPTIONAL: Mapping[str, Fields] = {  # entries that an edit may have
    "identity": {"identity.name": str, "identity.network": str, "identity.weights": str},
    "masks": {"masks.feather": _NUMBER},
    "animation": {"animation.format": str, "animation.frames": int, "animation.fps": int, "animation.side": int},
}
_KINDS: Mapping[str, Fields] = {  # of series, each with what it records
    "direction": {"unit": str, "absolute": _TEXT_OR_NONE, "scale": _NUMBER, "layers": (str, list, type(None))},
    "interpolate": {"interpolate.*": str},
    "mix": {"mix.*": str},
}


def read_edit(path: str | Path) -> Record:
    """Contents of edit.json.

    Raises:
        LsapError: as `read_run`; a field is missing or of another type.
    """
    record, file = read_run(path, EDIT), Path(path) / EDIT.file
    for fields in (_FIELDS, *(some for entry, some in _OPTIONAL.items() if entry in record)):
        check_fields(file, record, fields)
    for series in record["series"]:
        kind = next((kind for kind in _KINDS if kind in series), None)
        if kind is None or not series["labels"] or not (kind == "direction" or _is_pair(series[kind])):
            raise LsapError(f"{file}: the series {series['name'][:80]!r} cannot be of this package; restore the file")
        check_fields(file, series, _KINDS[kind])
    return record


def is_untouched(series: Record, label: str) -> bool:
    """Whether code and picture of a label are those of the run, whatever the edits are limited to."""
    return label == "0" and "mix" not in series and not series.get("absolute")


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2
