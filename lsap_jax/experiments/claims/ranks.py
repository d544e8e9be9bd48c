"""Methods ranked by reconstruction, editing and cost, and those that no other method beats.

A method's rank is that of the sum of its ranks in the columns of a side, over those columns that all methods have that
have any of them; ties share the mean of their places. On the frontier is who has no rival that is better on one side,
reconstruction or editing, and at least as good on the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

from lsap_jax.metrics.significance import Interval

# Side -> its columns, and whether more is better.
SIDES: Mapping[str, Mapping[str, bool]] = {
    "reconstruction": {"MSE": False, "perceptual distance": False, "MS-SSIM": True},
    "editing": {
        "preserved at equal success": True,
        "logit at equal success": True,
        "KID at equal success": False,
        "cycle at equal success": False,
        "identity at equal success": True,
    },
    "cost": {"s in all": False},
}


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Ranks of methods, 1 the best.

    Attributes:
        columns: side -> the columns that it is ranked by; a side without any is left out.
        places: side -> method -> rank.
        frontier: methods that no other beats.
    """

    columns: Mapping[str, Sequence[str]]
    places: Mapping[str, Mapping[str, float]]
    frontier: Sequence[str]


def ranked(rows: Mapping[str, Mapping[str, Interval]]) -> Ranks:
    """Ranks of the rows of `lsap_jax.experiments.claims.columns.table`."""
    columns, places = {}, {}
    for side, heads in SIDES.items():
        some = {name: row for name, row in rows.items() if any(head in row for head in heads)}
        shared = [head for head in heads if all(head in row for row in some.values())]
        if not some or not shared:
            continue
        scores = [rankdata([row[h].mean * (-1 if heads[h] else 1) for row in some.values()]) for h in shared]
        order = rankdata([sum(own) for own in zip(*scores, strict=True)])
        columns[side], places[side] = shared, dict(zip(some, map(float, order), strict=True))
    sides = [places.get(side, {}) for side in ("reconstruction", "editing")]
    points = {name: [own[name] for own in sides] for name in rows if all(name in own for own in sides)}
    return Ranks(columns=columns, places=places, frontier=best(points))


def best(points: Mapping[str, Sequence[float]]) -> list[str]:
    """Names whose point no other one beats: is at most as large everywhere, and smaller somewhere."""

    def beats(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    return [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]
