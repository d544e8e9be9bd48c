"""Who is served when: quick operations at once, one after the other; long ones in threads that take turns.

A long operation gives its turn away at each report of progress, so that two clients who invert at the same time both
see their images converge; and quick ones, the sliders, never wait for a long one. The work of a tab that is closed ends
at the next report, by `Stopped`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from lsap_jax.errors import LsapError
from lsap_jax.live.fields import Fields
from lsap_jax.live.operations import OPERATIONS, Answer
from lsap_jax.live.session import Session
from lsap_jax.live.studio import Studio

LONG_AT_ONCE = 8  # threads; those that wait for their turn compute nothing
MOST_WAITING = 32  # long operations of all clients
OF_CLIENT = {False: 4, True: 1}  # operations of one client under way, by whether they are long


class Stopped(Exception):
    """Nobody waits for the answer any more."""


class Busy(LsapError):
    """Too much is under way."""


class UnderWay(NamedTuple):
    """An operation that has not ended; `stop` says whether it is to end."""

    client: str
    long: bool
    stop: Callable[[], bool]


class Turns:
    """A lock that goes to whoever has waited for longest."""

    def __init__(self) -> None:
        self._changed, self._queue = threading.Condition(), deque[object]()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits for the turn, and gives it away at the end."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def pass_on(self) -> None:
        """Lets the others have their turns; called by who holds it."""
        self._give()
        self._take()

    def _take(self) -> None:
        own = object()
        with self._changed:
            self._queue.append(own)
            self._changed.wait_for(lambda: self._queue[0] is own)

    def _give(self) -> None:
        with self._changed:
            self._queue.popleft()
            self._changed.notify_all()


class Desk:
    """Does operations of a studio for any number of clients. `close` it at the end: then it is `closed`."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._quick = ThreadPoolExecutor(1, "studio-quick")
        self._long = ThreadPoolExecutor(LONG_AT_ONCE, "studio-long")
        self._turns, self._mutex = Turns(), threading.Lock()
        self._under_way: list[UnderWay] = []
        self.closed = False

    def ask(
        self, session: Session, name: str, asked: Fields, say: Callable[[Answer], None], stop: Callable[[], bool]
    ) -> "Future[Answer]":
        """Has an operation done in a thread.

        Args:
            name: a row of `OPERATIONS`.
            say: told of progress, in that thread.
            stop: whether nobody waits for the answer any more; asked at each report.

        Raises:
            Busy: this client, or all of them together, have too much under way.
        """
        operation = OPERATIONS[name]
        own = UnderWay(session.client, operation.long, stop)
        with self._mutex:
            alike = [one for one in self._under_way if one.long == own.long]
            wanted = sum(one.client == own.client and not one.stop() for one in alike)
            if wanted >= OF_CLIENT[own.long] or (own.long and len(alike) >= MOST_WAITING):
                raise Busy("something of yours is under way; wait until it is done, or stop it")
            self._under_way.append(own)

        def check() -> None:
            if self.closed or stop():
                raise Stopped

        def heard(progress: Answer) -> None:
            check()
            say(progress)
            if operation.long:
                self._turns.pass_on()
            check()

        def work() -> Answer:
            try:
                if not operation.long:
                    return operation.do(self.studio, session, asked, heard)
                with self._turns.held():
                    check()
                    return operation.do(self.studio, session, asked, heard)
            finally:
                with self._mutex:
                    self._under_way.remove(own)

        return (self._long if operation.long else self._quick).submit(work)

    def close(self) -> None:
        """Forgets what has not begun, and stops the rest at its next report."""
        self.closed = True
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._long.shutdown(wait=False, cancel_futures=True)
