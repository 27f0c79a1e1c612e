"""Secrets that stand in somebody's text, such as an exception's, taken out of it.

A `Secret` never shows itself; this is for text that was made elsewhere. It knows what secrets look like and what is
called one, so it is a net and no proof. One pass, in time linear in the text.
"""

import re

from mlmm.runtime.settings.secret import MASK

__all__ = ["mask"]

_AFTER_SCHEME = re.compile(r"(?<=://)[^\s'\"<>]+")
_SCHEMES = re.compile(r"\b(bearer|basic|digest|negotiate)\s+(?=[^\s'\"]{0,200}[\d=])[\w.~+/=-]{8,}", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:passw(?:or)?d|passwd|pwd|passphrase|secret|token|credential|api_?key|api-key|access_?key|private_?key"
    r"|authorization)[\w-]{0,30}['\"]?\s{0,3}(?:=|:(?!//)|=>)\s{0,3})"
    r"(?:b?\"[^\"\n]{1,2000}\"|b?'[^'\n]{1,2000}'|(?!\*{8})(?!\d{0,9}\.\d{1,9}(?:[\s,;)]|$))[^\s,;&'\"(){}\[\]<>]+)",
    re.IGNORECASE,
)
_SHAPES = re.compile(
    r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"  # a JSON web token
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{20,}|\bxox[abeoprs]-[\w-]{10,}|\bhf_\w{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)


def mask(text: str) -> str:
    r"""Return the text with ``********`` for credentials in URLs, tokens, keys, and what is called a password.

    >>> mask("redis://mlmm:hunter2@cache:6379/0 refused: Authorization: Bearer abc123def456")
    'redis://********@cache:6379/0 refused: Authorization: ********'
    """
    if "://" in text:
        text = _AFTER_SCHEME.sub(_address, text)
    text = _SCHEMES.sub(rf"\1 {MASK}", text)
    return _NAMED.sub(_named, _SHAPES.sub(MASK, text)).replace(f"{MASK} {MASK}", MASK)


def _address(found: "re.Match[str]") -> str:
    """What follows ``://``: all before the last ``@`` where it holds a colon, else a user's name or token before it."""
    head, at, tail = found[0].rpartition("@")
    if not at:
        return found[0]
    if ":" in head:
        return f"{MASK}@{tail}"
    host, slash, path = found[0].partition("/")
    _, at, name = host.rpartition("@")
    return f"{MASK}@{name}{slash}{path}" if at else found[0]


def _named(found: "re.Match[str]") -> str:
    return f"{found[1]}{MASK}"
