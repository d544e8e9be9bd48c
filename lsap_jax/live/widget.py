"""The studio in a notebook: the same view as a widget for Jupyter and Colab; it asks by messages to the kernel."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lsap_jax.editing.direction import Direction
from lsap_jax.errors import LsapError
from lsap_jax.live import page
from lsap_jax.live.bench import Bench, as_batch
from lsap_jax.live.desk import Busy, Desk, Stopped
from lsap_jax.live.messages import explained
from lsap_jax.live.operations import OPERATIONS
from lsap_jax.live.session import MOST_TAKES, Session, Take
from lsap_jax.live.studio import Studio, make_studio
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import take as refinement_of
from lsap_jax.rendering.render import fitted
from lsap_jax.runs.invert import Inversion
from lsap_jax.runs.refine import Refined

Call = Mapping[str, Any]


def studio(
    G: Generator,
    inv: Inversion | Refined | None = None,
    images: np.ndarray | None = None,
    *,
    directions: Sequence[Direction] = (),
) -> Any:
    """The studio as a widget: sliders, samples, comparison, inversion of photographs, as on the page of
    `lsap-jax studio`. Show it as the last value of a cell.

    Args:
        G: the generator.
        inv: of `lsap_jax.invert`, `encode` or `refine`: its images can be edited at once, the first 20 of them.
        images: [N, R, R, C] uint8, the targets of `inv`, to be shown beside them.
        directions: to offer beside those that are bundled with the generator or cached.

    Returns:
        an `anywidget.AnyWidget`.

    Raises:
        LsapError: anywidget is not installed, the generator is conditional, or codes and images do not fit.
    """
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise LsapError(
            "the studio of notebooks needs anywidget: pip install '.[studio]' in lsap_jax's checkout"
        ) from None
    bench = Bench(G=G)
    name = str(G.provenance.get("name") or G.source or "generator")
    opened = () if inv is None else _takes(bench, inv, images)
    made = make_studio(G, name, directions=directions, opened=opened, bench=bench)

    class StudioWidget(anywidget.AnyWidget):  # type: ignore[misc]  # its base is there only with the extra
        _esm = traitlets.Unicode(page.script()).tag(sync=True)
        _css = traitlets.Unicode(page.style()).tag(sync=True)

    widget = StudioWidget()
    answer = answering(made, lambda message: widget.send(message))
    widget.on_msg(lambda _, call, buffers: answer(call))
    return widget


def answering(studio: Studio, send: Any) -> Any:
    """A function that has messages {"call", "name", "request"} answered by `send`, in threads; {"call", "stop"} stops.

    Args:
        send: called with {"call", "progress" | "done" | "error"}.
    """
    desk, session, stopped = Desk(studio), Session(), dict[Any, threading.Event]()

    def answer(call: Call) -> None:
        number, name = call.get("call"), str(call.get("name"))
        if call.get("stop"):
            if number in stopped:
                stopped[number].set()
            return
        if name not in OPERATIONS:
            send({"call": number, "error": "there is no such operation"})
            return
        gone = stopped[number] = threading.Event()

        def said(progress: Any) -> None:
            send({"call": number, "progress": progress})

        def ended(future: Any) -> None:
            stopped.pop(number, None)
            error = None if future.cancelled() else future.exception()
            if future.cancelled() or isinstance(error, Stopped):
                return
            told = {"done": future.result()} if error is None else {"error": explained(error)}
            send({"call": number, **told})

        try:
            desk.ask(session, name, call.get("request") or {}, said, gone.is_set).add_done_callback(ended)
        except Busy as error:
            stopped.pop(number, None)
            send({"call": number, "error": str(error)})

    return answer


def _takes(bench: Bench, inv: Inversion | Refined, images: np.ndarray | None) -> list[Take]:
    """The first images of an inversion as takes.

    Raises:
        LsapError: codes of another generator, or images that are not the targets.
    """
    _, space, codes = fitted(bench.G, inv.space, inv.codes)
    if images is not None and (np.shape(images) != np.shape(inv.images) or np.asarray(images).dtype != np.uint8):
        raise LsapError(
            f"images are {np.asarray(images).dtype} of shape {list(np.shape(images))}; give the uint8 targets, "
            f"{list(np.shape(inv.images))}"
        )
    refinement = getattr(inv, "refinement", None)
    found = []
    for i, id in enumerate(inv.ids[: MOST_TAKES // 2]):
        own = jax.tree.map(lambda a, i=i: np.asarray(a)[i : i + 1], codes)
        refined = None if refinement is None else as_batch(refinement_of(refinement, i))
        found.append(
            Take(
                key=f"i{i}",
                id=id,
                label=f"{id}, {space.name}" + ("" if refined is None else ", refined"),
                space=space,
                codes=own,
                refinement=refined,
                picture=bench.picture(space, own, refined),
                target=None if images is None else np.asarray(images)[i],
                photo=f"inversion:{id}",
                metrics={name: float(values[i]) for name, values in inv.metrics.items() if np.isfinite(values[i])},
            )
        )
    if found:
        bench.warm(space, found[0].codes, found[0].refinement)
    return found
