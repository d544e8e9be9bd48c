"""Pictures to faces in the position that generators were trained on: upright, centred, square, as in FFHQ.

usage: lsap-jax align IMAGES ... --out DIR [--resolution 1024] [--face clear|largest|only]

IMAGES are those of `lsap-jax invert`, which takes DIR afterwards; `lsap-jax invert --align` does both in one go. Faces
are found by MTCNN. DIR gets ID.png per picture; alignment.jsonl says what was cut out and what is to be known about it,
failures.jsonl which pictures were refused and why: no face, several, too small, cut off, from the side. Faces that lie
on their sides or upside down are cut out upright. Run the same command again to finish an interrupted one; delete a PNG
to have it done again.

Exit status: 0 all done, 1 some images failed, 2 unusable arguments, 130 after Ctrl-C.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from lsap_jax.cli import INCOMPLETE, INTERRUPTED, OK, one_line
from lsap_jax.cli.arguments import Arguments, choice, new_flags, number, real, switch, text

if TYPE_CHECKING:
    from lsap_jax.cli.alignment import Folder
    from lsap_jax.data import ImageError, Source
    from lsap_jax.data.source import Picture
    from lsap_jax.faces.detect import Detector
    from lsap_jax.faces.upright import Meant, Small
    from lsap_jax.runs.saving import Clock

    Ready = tuple[Picture, Small]  # as it is cut out, and as it is searched
    Waiting = list[tuple[int, str, Future[tuple[dict[str, Any], bytes]]]]

SHOWN_FAILURES = 5
DECIDING = ("resolution", "face", "enlarge", "profiles", "min_face")  # what a resumed command must share


def flags() -> FlagValues:
    values = new_flags()
    text(values, "out", "folder for the aligned pictures")
    number(values, "resolution", "side of the aligned pictures in pixels", 1024, lower=1)
    choice(
        values,
        "face",
        ("clear", "largest", "only"),
        "clear takes the largest face and refuses where another is more than half as large; largest takes it whatever "
        "there is besides; only refuses where there is any other",
        "clear",
    )
    real(values, "enlarge", "refuse faces that would have to be enlarged more times than this", 4.0)
    switch(values, "profiles", "take faces that are seen from the side too")
    real(values, "min_face", "side of the smallest face to look for, in pixels of a picture of at most 1024", 20.0)
    text(values, "detector", "MTCNN weights that `lsap-jax convert` wrote (default: those of the package)")
    number(values, "batch_size", "pictures at a time (default: 8, on a CPU 1)", lower=1)
    return values


def run(args: Arguments) -> int:
    args.no_config()
    args.some("images")
    out = Path(args.required("out"))
    from lsap_jax.cli.runs import opened
    from lsap_jax.faces.choose import check_options
    from lsap_jax.faces.detect import check_search, load_detector

    settings: dict[str, Any] = {name: args.flags[name].value for name in DECIDING}
    check_options(settings["face"], settings["enlarge"])
    check_search(settings["min_face"])
    detector = load_detector(args.flags.detector)
    source = opened(args, args.flags.resolution, 3)
    return align(detector, source, settings, out, args.flags.batch_size)


def align(
    detector: "Detector", source: "Source", settings: Mapping[str, Any], out: Path, batch_size: int | None
) -> int:
    """Aligns with progress, prints the summary; returns the exit status."""
    from lsap_jax.cli.alignment import FAILED, opened
    from lsap_jax.cli.progress import reporter
    from lsap_jax.runs.saving import Clock

    try:
        with opened(out, {**settings, "detector_sha256": detector.sha256}) as folder, reporter() as progress:
            forget_changed(folder, source)
            earlier = sum(id in folder.done for id in source.ids)
            clock = Clock(total=len(source), done=earlier, report=progress)
            _align_all(detector, source, settings, folder, clock, batch_size)
            folder.finish()
    except KeyboardInterrupt:
        print(f"interrupted: run the same command again to go on with {out}", file=sys.stderr)
        return INTERRUPTED
    failures = [folder.failed[id] for id in source.ids if id in folder.failed]
    for record in failures[:SHOWN_FAILURES]:
        print(f"failed: {one_line(record['input'])}: {one_line(record['reason'])}", file=sys.stderr)
    if len(failures) > SHOWN_FAILURES:
        print(f"... and {len(failures) - SHOWN_FAILURES} more, in {out / FAILED}", file=sys.stderr)
    before = f", {earlier} of them earlier" if earlier else ""
    failed = f", {len(failures)} failed" if failures else ""
    print(f"{len(source) - len(failures)} pictures aligned in {out}{before}{failed}")
    return INCOMPLETE if failures else OK


def forget_changed(folder: "Folder", source: "Source") -> None:
    """Pictures whose input is another one than it was are done anew."""
    from lsap_jax.data import ImageError

    for index, id in enumerate(source.ids):
        if id in folder.done:
            try:
                same = source.sha256(index) == folder.done[id]["input_sha256"]
            except ImageError:
                same = False
            if not same:
                del folder.done[id]


def _align_all(
    detector: "Detector",
    source: "Source",
    settings: Mapping[str, Any],
    folder: "Folder",
    clock: "Clock",
    batch_size: int | None,
) -> None:
    """While one batch is searched for faces, threads decode the next and cut the one before out."""
    from lsap_jax.data import ImageError
    from lsap_jax.faces.choose import FaceError
    from lsap_jax.faces.detect import shrunk, together
    from lsap_jax.faces.upright import Small, find_meant

    size = together(batch_size)
    options = {name: settings[name] for name in ("min_face", "face", "enlarge", "profiles")}
    pending = [index for index, id in enumerate(source.ids) if id not in folder.done]

    def prepare(picture: "Picture") -> "Ready":
        return picture, Small(shrunk(picture.picture), picture.picture.size)

    waiting: Waiting = []
    with ThreadPoolExecutor(2, thread_name_prefix="lsap-align") as pool:
        for batch in _batches(source.stream_pictures(prepare, pending, ahead=size), size):
            clock.begin(len(batch))
            good: list[tuple[int, Picture]] = []
            small: list[Small] = []
            for index, ready in batch:
                if isinstance(ready, ImageError):
                    _fail(folder, clock, source, index, ready.reason)
                else:
                    good.append((index, ready[0]))
                    small.append(ready[1])
            found = find_meant(detector, small, settings["resolution"], batch_size=batch_size, **options)
            _save(folder, clock, source, waiting)
            waiting = []
            for (index, picture), meant in zip(good, found, strict=True):
                if isinstance(meant, FaceError):
                    _fail(folder, clock, source, index, str(meant))
                else:
                    waiting.append((index, picture.id, pool.submit(cut_out, picture, meant, settings["resolution"])))
        _save(folder, clock, source, waiting)


def _batches(
    stream: "Iterable[tuple[int, Ready | ImageError]]", size: int
) -> "Iterator[list[tuple[int, Ready | ImageError]]]":
    batch = []
    for item in stream:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _save(folder: "Folder", clock: "Clock", source: "Source", waiting: "Waiting") -> None:
    """Writes what has been cut out."""
    for index, id, future in waiting:
        record, png = future.result()
        folder.write({"id": id, "input": source.inputs[index], **record}, png)
        clock.end(1)
        clock.saved(1)
    clock.tell()


def _fail(folder: "Folder", clock: "Clock", source: "Source", index: int, reason: str) -> None:
    folder.fail(source.ids[index], source.inputs[index], reason)
    clock.under_way -= 1
    clock.fail()


def cut_out(picture: "Picture", meant: "Meant", resolution: int) -> tuple[dict[str, Any], bytes]:
    """What alignment.jsonl says about a picture, and its PNG."""
    from lsap_jax.faces.align import align as align_face
    from lsap_jax.faces.align import crop_quad
    from lsap_jax.faces.choose import remarks
    from lsap_jax.storage.file_bytes import png_bytes

    faces, chosen = meant
    landmarks = faces.landmarks[chosen]
    record = {
        "input_sha256": picture.sha256,
        "quad": crop_quad(landmarks).round(3).tolist(),
        "landmarks": landmarks.astype(float).round(3).tolist(),
        "score": round(float(faces.scores[chosen]), 6),
        "notes": [*picture.notes, *remarks(faces, chosen, picture.picture.size, resolution)],
    }
    return record, png_bytes(align_face(picture.picture, landmarks, resolution))
