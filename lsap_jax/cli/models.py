"""Public checkpoints, with the commands that convert them, and what is bundled and cached here.

usage: lsap-jax models [--search WORD]

Nothing is fetched. `lsap-jax convert`, and --generator, --encoder and --weights of every command, take the path of a
file, or an address that is printed here. If there is none, the publisher's page asks for a click; give the file that
you get there to `convert`. Licences are those of the repositories: read them, and what they say about the weights.
"""

from absl.flags import FlagValues

from lsap_jax.cache import user_folder
from lsap_jax.cli.arguments import Arguments, new_flags, switch, text
from lsap_jax.errors import LsapError


def flags() -> FlagValues:
    values = new_flags()
    text(values, "search", "list only checkpoints with this word: a file, a publisher, a licence, a use")
    switch(values, "markdown", "print the table of docs/photographs.md instead")
    return values


def run(args: Arguments) -> int:
    from lsap_jax.models.published import PUBLISHED, Checkpoint, markdown

    args.no_config()
    args.only()
    if args.flags.markdown:
        print(markdown())
        return 0
    word = args.flags.search

    def entry(one: Checkpoint) -> list[str]:
        return [
            f"{one.role:11} {', '.join(one.files)}",
            f"{'':11} {one.use}; {one.format}; licence: {one.licence}",
            *(f"{'':11} {line}" for line in (one.address or one.page, one.command)),
        ]

    entries = [entry(one) for one in PUBLISHED]
    found = [lines for lines in entries if word is None or word.lower() in " ".join(lines).lower()]
    if not found:
        raise LsapError(f"--search={word}: no checkpoint has this word")
    print(*("\n".join(lines) for lines in found), sep="\n\n")
    if word is None:
        print("", *bundled(), *cached(), sep="\n")
    return 0


def bundled() -> list[str]:
    """The weights inside the package, a line each."""
    from lsap_jax.models.generator_file import bundled as generators

    folder = next(iter(generators().values())).parent if generators() else None
    files = sorted(folder.glob("*.safetensors")) if folder else []
    lines = [f"{'':11} {path.name}, {path.stat().st_size / 1e6:.1f} MB" for path in files]
    return [f"bundled     in {folder}, licences in LICENSE.md there" if folder else "bundled     nothing", *lines]


def cached() -> list[str]:
    """The fetched files, two lines each."""
    from lsap_jax.storage.fetch import cached_files, downloads

    lines = [
        line
        for one in cached_files()
        for line in (
            f"{'':11} {one['address']}, {one['bytes'] / 1e6:.1f} MB, SHA-256 {one['sha256'][:16]}…",
            f"{'':11} {one['path']}",
        )
    ]
    head = f"fetched     in {downloads()}" if lines else f"fetched     nothing; the cache is {user_folder()}"
    return [head, *lines]
