"""The one tree of errors.

::

    MlmmError
    ├── MalformedEvent       a record that does not keep the contract (events)
    ├── SettingsError        a setting that is wrong or missing (runtime)
    ├── MissingExtra         an optional dependency that is not installed (runtime)
    ├── ServiceUnavailable   Kafka, Redis or SMTP can't be reached (runtime)
    ├── Fenced               this worker no longer owns what it writes (runtime)
    ├── LogChanged           the input topic is no longer the log that the state was made from (runtime)
    └── NotDelivered         a notification that could not be delivered (alerting)
"""

__all__ = ["MalformedEvent", "MlmmError"]

_LONGEST = 500
"""Characters of a reason and of a path, each: both may quote what someone sent, and travel in a header."""


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 4 :]}"


class MlmmError(Exception):
    """The root of every error that MLMM raises on purpose."""


class MalformedEvent(MlmmError):  # noqa: N818 - named for the record, as NotDelivered is for the notification
    """A record that does not keep the contract.

    Parameters
    ----------
    reason : str
        What is wrong and what is expected; what is very long is cut in the middle.
    field : str
        The path of the field at fault, such as ``"head.model"``; empty when it is the record as a whole.
    """

    def __init__(self, reason: str, *, field: str = "") -> None:
        field, reason = _short(field), _short(reason)
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason
