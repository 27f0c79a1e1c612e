"""Structured logs: an event name and fields, as ``key=value`` for people or JSON for machines.

::

    log = logs.get("mlmm.worker")
    log.info("partition claimed", extra={"partition": 3, "offset": 1200})
    # 2026-11-21T10:00:00.123Z INFO  mlmm.worker partition claimed partition=3 offset=1200

Fields go in ``extra``, as in the standard library, so a service that has logging of its own shows ours in its way. A
field whose name speaks of a secret is masked, and so is what looks like one, in messages and tracebacks too.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from mlmm.runtime.masking import mask
from mlmm.runtime.settings.secret import MASK, Secret

__all__ = ["JsonFormatter", "TextFormatter", "configure", "get"]

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
_SECRET_NAME = re.compile(r"passw|secret|token|credential|api_?key|authorization|private_?key", re.IGNORECASE)
_PLAIN = re.compile(r"[^\s\"'=]+")
_BURST, _PERIOD, _KINDS = 5, 10.0, 500
"""Lines of a kind that a library may write in so many seconds, and kinds that are told apart. A client whose broker is
away says so hundreds of times a second, and buries what our own lines say of it."""
_QUIET = ("kafka", "aiokafka", "faust", "mode", "asyncio")
"""Libraries that tell at INFO what only their authors want to know."""


def get(name: str = "mlmm") -> logging.Logger:
    """Return a logger below ``mlmm``, whatever its name: all of ours are turned on and off together."""
    return logging.getLogger(name if name == "mlmm" or name.startswith("mlmm.") else f"mlmm.{name}")


def configure(level: str | int = "INFO", *, json: bool = False, stream: TextIO | None = None) -> None:
    """Send logs to standard error: for processes of ours, never called in a user's.

    Parameters
    ----------
    level : str or int
        Least level that is shown; other libraries show warnings only, unless it is ``"DEBUG"``.
    json : bool
        Whether each line is a JSON object.
    stream : file, optional
        Where to write instead of standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, JsonFormatter | TextFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    if root.level > logging.DEBUG:
        handler.addFilter(Sparing())
    quiet = logging.NOTSET if root.level <= logging.DEBUG else max(root.level, logging.WARNING)
    for name in _QUIET:
        logging.getLogger(name).setLevel(quiet)


class Sparing(logging.Filter):
    """Lets the libraries of Kafka say the same a few times in ten seconds, then says how often it was said.

    Parameters
    ----------
    clock : Callable
        Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], list[float]] = {}
        """Logger and text before its arguments → start of the period, lines in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a record; the first one of a new period tells how many like it were left out."""
        if record.name.partition(".")[0] not in _QUIET:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        if len(self._kinds) > _KINDS:
            self._kinds.clear()
        seen = self._kinds.setdefault(kind, [now, 0])
        if now - seen[0] >= _PERIOD:
            left_out = int(seen[1]) - _BURST
            if left_out > 0:
                record.left_out = left_out
            seen[:] = now, 0
        seen[1] += 1
        return seen[1] <= _BURST


class TextFormatter(logging.Formatter):
    """Time, level, logger, event, then ``key=value``; what holds a blank is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback below it where there is one."""
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.name} {mask(record.getMessage())}{fields}"
        trace = _trace(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``event``, the fields, ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object; fields can't hide what the line itself says."""
        line: dict[str, Any] = {name: _jsonable(value) for name, value in _fields(record).items()}
        line |= {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        line["event"] = mask(record.getMessage())
        trace = _trace(self, record)
        if trace:
            line["traceback"] = trace
        first = ("time", "level", "logger", "event")
        ordered = {name: line.pop(name) for name in first} | line
        return json.dumps(ordered, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: _safe(name, value) for name, value in vars(record).items() if name not in _STANDARD}


def _safe(name: str, value: Any) -> Any:
    if isinstance(value, Secret) or (_SECRET_NAME.search(name) and value):
        return MASK if value else ""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {str(key): _safe(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(name, inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return mask(value.decode(errors="replace") if isinstance(value, bytes) else str(value))


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if _PLAIN.fullmatch(text) or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    """JSON has no NaN: a figure that is none stands as its name."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
        return str(value)
    if isinstance(value, dict):
        return {key: _jsonable(inner) for key, inner in value.items()}
    return [_jsonable(inner) for inner in value] if isinstance(value, list) else value


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return mask("\n".join(parts))
