"""docs/which_method.md, filled from a comparison of all methods by a rule that the page states.

    lsap-jax compare heldout --config all_methods --generator toonhead64 --out runs/all_methods
    python benchmarks/which_method.py runs/all_methods --out docs/which_method.md

The numbers are those of methods.csv and ranks.csv, nothing is measured here.
"""

import argparse
import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Row = Mapping[str, str]
Rows = Mapping[str, Row]
PRESERVED, LOGIT = "preserved at equal success", "logit at equal success"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What someone needs.

    Attributes:
        need: in words.
        column: decides, the lowest or with `higher` the highest.
        among: (methods, their names) to the names of those that come into question.
        told: who these are, in words; "" is all.
    """

    need: str
    column: str
    higher: bool = False
    among: Callable[[Rows], list[str]] = list
    told: str = ""


def value(row: Row, column: str) -> float:
    """NaN where there is none."""
    return float(row.get(column) or math.nan)


def at_most(column: str, times: float) -> Callable[[Rows], list[str]]:
    """Methods with at most so many times the least of a column."""

    def among(rows: Rows) -> list[str]:
        known = {name: x for name, row in rows.items() if math.isfinite(x := value(row, column))}
        return [name for name, x in known.items() if x <= times * min(known.values(), default=math.nan)]

    return among


def better_half(rows: Rows) -> list[str]:
    """Methods whose MSE is not above the median one."""
    known = {name: x for name, row in rows.items() if math.isfinite(x := value(row, "MSE"))}
    middle = sorted(known.values())[(len(known) - 1) // 2 : (len(known) + 1) // 2]
    return [name for name, x in known.items() if x <= max(middle)]


FAITHFUL = "the better half of all methods by MSE"
SITUATIONS = (
    Situation(need="The picture itself, whatever it takes", column="MSE"),
    Situation(
        need="Thousands of pictures",
        column="MSE",
        among=at_most("s in all", 10),
        told="methods that take at most ten times as long as the fastest",
    ),
    Situation(
        need="Edits that leave the rest alone",
        column=PRESERVED,
        higher=True,
        among=better_half,
        told=FAITHFUL,
    ),
    Situation(need="Edits that look like real pictures", column=LOGIT, higher=True, among=better_half, told=FAITHFUL),
    Situation(
        need="Little room to keep them",
        column="MSE",
        among=at_most("bytes per image", 2),
        told="methods whose files are at most twice as large as the smallest",
    ),
    Situation(need="A bit of everything", column="sum of ranks"),
)
HEADS = ("you need", "take", "by", "not told apart from it", "command")


def chosen(situation: Situation, rows: Rows) -> tuple[str, list[str]] | None:
    """The method for a situation, and those whose intervals hold its value; None where no method has the column."""
    known = {n: v for n in situation.among(rows) if math.isfinite(v := value(rows[n], situation.column))}
    if not known:
        return None
    best = (max if situation.higher else min)(known, key=lambda name: known[name])

    def holds(name: str) -> bool:
        low, high = (value(rows[name], f"{situation.column} {end}") for end in ("low", "high"))
        return low <= known[best] <= high

    return best, [name for name in known if name != best and holds(name)]


def command(name: str, steps: int) -> str:
    """How a cell is made of pictures."""
    first, _, method = name.partition(" then ")
    own = "" if first == "e4e" else " --encoder FILE"
    how = f"encode IMAGES --generator G{own}" if steps == 0 else f"invert IMAGES --generator G --config {first}"
    return f"lsap-jax {how}{f' --refine {method}' if method else ''} --out DIR"


TEXT = """# Which method?

{about}

{table}

The rule of each row:

{rules}

Not told apart are those that come into question and whose 95 % interval holds the best value. The ranks are those of
reconstruction, editing and cost; seconds are those of both stages without compilation. Edits are compared where
equally many succeed, over the directions in which all methods get that far; a method that few directions reach at all
leaves much alone because it changes little. The logit is that of the generator's own discriminator, the higher the more
like a real picture (KID means nothing with fewer than 100 pictures). Another generator, other pictures or more steps
may give another answer; `python benchmarks/which_method.py RUN`, which made this page, makes it of any run of
`lsap-jax compare --config all_methods`. [comparison.md](comparison.md) has all numbers.
"""


def page(rows: Rows, about: str) -> str:
    """The page."""
    table = [HEADS, ("---",) * len(HEADS)]
    for one in SITUATIONS:
        found = chosen(one, rows)
        if found is None:
            table.append((one.need, "–", f"no method has {one.column}", "–", "–"))
            continue
        best, others = found
        number = f"{one.column} {value(rows[best], one.column):.3g}"
        if one.column in (PRESERVED, LOGIT) and (reach := rows[best].get("directions")):
            number += f"; {reach} directions reach it"
        listed = ", ".join(f"`{name}`" for name in others) or "–"
        table.append((one.need, f"`{best}`", number, listed, f"`{command(best, int(rows[best]['steps']))}`"))
    rules = [
        f"- *{one.need}*: the {'highest' if one.higher else 'lowest'} {one.column}"
        + (f" among {one.told}." if one.told else ".")
        for one in SITUATIONS
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return TEXT.format(about=about, table="\n".join(lines), rules="\n".join(rules))


def read(run: Path) -> tuple[dict[str, Row], str]:
    """The rows of a comparison by method, and a sentence about it.

    Raises:
        OSError: a file is missing: no comparison, or one without a table of methods.
    """
    tables = {}
    for file, key in (("methods.csv", "method"), ("ranks.csv", "method"), ("comparison.csv", "preset")):
        with open(run / file, newline="", encoding="utf-8") as lines:
            tables[file] = {line[key]: line for line in csv.DictReader(lines)}
    rows = {}
    for name, row in tables["methods.csv"].items():
        ranks = tables["ranks.csv"].get(name, {})
        places = [value(ranks, side) for side in ("reconstruction", "editing", "cost")]
        steps = tables["comparison.csv"][name]["steps"]
        rows[name] = {**row, "steps": steps, "sum of ranks": repr(sum(places))}
    record = json.loads((run / "comparison.json").read_text("utf-8"))
    generator, images = record["generator"], next(iter(tables["comparison.csv"].values()))["images"]
    made = f"`{Path(generator['name']).stem}` ({generator['sha256'][:8]}…, {generator['img_resolution']} px)"
    about = f"{len(rows)} methods, measured with {made} on {images} pictures."
    return rows, about


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of `lsap-jax compare --config all_methods`")
    parser.add_argument("--out", default="docs/which_method.md")
    args = parser.parse_args(argv)
    Path(args.out).write_text(page(*read(Path(args.run))), "utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
