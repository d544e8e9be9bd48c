"""Write report.html of a run anew, also while the run is unfinished.

usage: lsap-jax report RUN [--max_pictures N]

The page is self-contained: it opens offline and can be sent as one file.
"""

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, number


def flags() -> FlagValues:
    values = new_flags()
    number(values, "max_pictures", "most images whose pictures are embedded", 200, lower=0)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.report.run_report import write_run_report

    args.no_config()
    (folder,) = args.only("RUN")
    print(write_run_report(folder, max_pictures=args.flags.max_pictures))
    return 0
