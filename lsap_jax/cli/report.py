"""Write report.html of a run, a comparison, edits or their quality again, even if they are unfinished.

usage: lsap-jax report RUN|COMPARISON|EDIT|QUALITY [--worst METRIC] [--max_pictures N] [--beside EDIT]

The page is self-contained: it opens offline and can be sent as one file. The page of a run links to the comparison that
the run is part of, and to the edits in folders beside the run. With --worst=mse, or another metric of the run, and for
edits with --worst=identity, the worst images come first, and the page embeds their pictures. For a comparison, all
tables are written, too: methods.md if it has a claim, and those of its edits. Nothing is computed.
"""

from pathlib import Path

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, number, text
from lsap_jax.errors import LsapError


def flags() -> FlagValues:
    values = new_flags()
    number(
        values,
        "max_pictures",
        "embed the pictures of at most this many images (default: 200 of a run, 60 of edits)",
        lower=0,
    )
    text(values, "worst", "show the worst images first, by this metric of a run, or by identity of edits")
    text(values, "beside", "folder of other edits to show beside these")
    return values


def run(args: Arguments) -> int:
    from lsap_jax.editing.edit_record import EDIT
    from lsap_jax.experiments.comparison.runs import LAYOUT
    from lsap_jax.experiments.edit_quality.folder import RECORD
    from lsap_jax.report.claims.write import rewrite
    from lsap_jax.report.edit_report import MAX_IMAGES, write_edit_report
    from lsap_jax.report.quality.write import write_quality
    from lsap_jax.report.run_report import MAX_PICTURES, write_run_report
    from lsap_jax.storage.results import RUN

    args.no_config()
    worst = args.flags.worst
    folder, most, beside = Path(args.only("RUN")[0]), args.flags.max_pictures, args.flags.beside
    edited = (folder / EDIT.file).is_file()
    if beside and not edited:
        raise LsapError(f"--beside={beside}: is for the page of edits; {folder} has no {EDIT.file}")
    if worst is not None and not edited and not (folder / RUN.file).is_file():
        raise LsapError(f"--worst={worst}: is for the page of a run or of edits; {folder} has no {RUN.file}")
    if edited:
        print(write_edit_report(folder, beside, MAX_IMAGES if most is None else most, worst=worst))
    elif (folder / LAYOUT.file).is_file():
        rewrite(folder)
        print(folder / "report.html")
    elif (folder / RECORD).is_file():
        write_quality(folder)
        print(folder / "report.html")
    else:
        print(write_run_report(folder, max_pictures=MAX_PICTURES if most is None else most, worst=worst))
    return 0
