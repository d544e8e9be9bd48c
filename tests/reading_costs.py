"""Reads files in a process of its own and measures what each costs.

    python reading_costs.py READER MEMORY < PATHS

prints a JSON line for each path on stdin: [processor seconds, growth of the process's peak in bytes, the name of the
exception or "", its message]. MEMORY is the most address space in bytes that the process may gain.
"""

import json
import resource
import sys
import time
import warnings
from contextlib import suppress


def foreign(path: str) -> None:
    import convert_weights

    convert_weights.read(path)


def converted(path: str) -> None:
    from lsap_jax.storage.weights_file import read_weights

    read_weights(path)


def code(path: str) -> None:
    from lsap_jax.storage.file_bytes import arrays_from_npz

    with open(path, "rb") as file:
        arrays_from_npz(file.read())


def picture(path: str) -> None:
    from lsap_jax.data.decode import picture_from_bytes
    from lsap_jax.data.source import read_file

    picture_from_bytes(read_file(path))


def directions(path: str) -> None:
    from lsap_jax.editing.imported import load_directions

    load_directions(path, space="w")


READERS = {one.__name__: one for one in (foreign, converted, code, picture, directions)}


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    reader, room = READERS[sys.argv[1]], int(sys.argv[2])
    paths = sys.stdin.read().split("\n")
    warnings.simplefilter("ignore")
    with suppress(Exception):
        reader(paths[0])  # imports what it needs
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + room, now + room))
    before = peak()
    for path in paths[1:]:
        start, error, message = time.process_time(), "", ""
        try:
            reader(path)
        except Exception as raised:
            error, message = type(raised).__name__, str(raised)
        print(json.dumps([time.process_time() - start, peak() - before, error, message]), flush=True)


if __name__ == "__main__":
    main()
