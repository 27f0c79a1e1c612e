"""A text that never shows itself."""

__all__ = ["MASK", "Secret", "mask_url"]

MASK = "********"


class Secret:
    """A password, key or token: prints as ``********``; `reveal` gives the text to whoever must send it.

    Parameters
    ----------
    text : str
        The secret; an empty one means that none is set.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __str__(self) -> str:
        return MASK if self._text else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce__(self) -> tuple[type, tuple[str]]:
        raise TypeError("a Secret is never pickled; let the other process load the settings itself")


def mask_url(url: str) -> str:
    """Return ``url`` with its credentials and its query masked, however broken it is."""
    scheme, slashes, rest = url.partition("//")
    if not slashes:
        return MASK if "@" in url or "?" in url else url
    rest, query, _ = rest.partition("?") if "@" not in rest.rpartition("?")[2] else (rest, "", "")
    credentials, at, host = rest.rpartition("@")
    shown = f"{MASK}@{host}" if at and credentials else rest
    return f"{scheme}//{shown}" + (f"?{MASK}" if query else "")
