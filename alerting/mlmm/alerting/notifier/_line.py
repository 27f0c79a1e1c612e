"""One notifier's own queue and thread: a slow server delays its own notifications and nobody else's."""

import heapq
import logging
import threading
from collections.abc import Callable, Sequence
from itertools import count

from mlmm.alerting._words import clean
from mlmm.alerting.notifier._pipeline import Again, Finish, Job, Place, Stage, walk
from mlmm.events.types import NotificationOutcome

__all__ = ["Line"]

logger = logging.getLogger(__name__)


class Line:
    """Takes jobs through the stages, the earliest due first; what must be tried again waits without blocking others.

    Parameters
    ----------
    name : str
        The notifier.
    stages : sequence of Stage
        Its way.
    write : callable
        Writes an outcome down, after it came about; False when it could not and the job must not count as done.
    finished : callable
        Called with the places of the records that are done.
    limit : int
        Jobs that may wait.
    clock : callable
        Seconds of a monotonic clock.
    now : callable
        Microseconds since the epoch, for outcomes.
    """

    def __init__(
        self,
        name: str,
        stages: Sequence[Stage],
        *,
        write: Callable[[NotificationOutcome], bool],
        finished: Callable[[Sequence[Place]], None],
        limit: int,
        clock: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self.name = name
        self._stages = stages
        self._write = write
        self._finished = finished
        self._limit = limit
        self._clock = clock
        self._now = now
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, Job]] = []
        self._order = count()
        self._open: dict[str, Job] = {}
        self._stopping = False
        self._trying = False
        self._thread = threading.Thread(target=self._run, name=f"notifier {clean(name, 40)}", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def offer(self, job: Job) -> bool:
        """Take a job; False when the queue is full. A second record of a notification joins the first."""
        with self._changed:
            known = self._open.get(job.notification.notification_id)
            if known is not None:
                known.places.extend(job.places)
                return True
            if len(self._open) >= self._limit:
                return False
            self._open[job.notification.notification_id] = job
            heapq.heappush(self._queue, (self._clock(), next(self._order), job))
            self._changed.notify()
            return True

    def nudge(self) -> None:
        """Look at the clock again: for whoever moves it by hand."""
        with self._changed:
            self._changed.notify()

    def end(self) -> None:
        """Begin no further try. What waits stays in Kafka."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def stop(self, timeout: float) -> bool:
        """End after the try in hand; return whether it ended in time."""
        self.end()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Jobs that are not done."""
        with self._changed:
            return len(self._open)

    @property
    def trying(self) -> bool:
        """Whether a try is in hand whose end is not written down yet."""
        with self._changed:
            return self._trying

    def _next(self) -> Job | None:
        """Wait for the next job that is due; None to end."""
        with self._changed:
            while not self._stopping:
                pause = self._queue[0][0] - self._clock() if self._queue else None
                if pause is not None and pause <= 0:
                    self._trying = True
                    return heapq.heappop(self._queue)[2]
                self._changed.wait(pause)
            return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            ended = self._walk(job)
            written = ended.outcome is None or self._write(ended.outcome)
            with self._changed:
                self._trying = False
                if isinstance(ended, Again):
                    heapq.heappush(self._queue, (self._clock() + ended.after, next(self._order), job))
                    continue
                del self._open[job.notification.notification_id]
            if written:
                self._finished(job.places)

    def _walk(self, job: Job) -> Finish | Again:
        try:
            return walk(self._stages, job)
        except Exception as error:  # a notification that can't be rendered must not end its notifier
            logger.exception("notification failed", extra={"notification": job.notification.notification_id})
            outcome = NotificationOutcome(
                notification_id=job.notification.notification_id,
                notifier=job.notification.notifier,
                state="failed",
                time=self._now(),
                attempts=job.attempts,
                error=f"{type(error).__name__} while it was made (see the log)",
                delivered_to=job.delivered,
                unsure=job.unsure,
            )
            return Finish(outcome)
