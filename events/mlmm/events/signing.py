"""Signatures of commands: the header ``mlmm_signature``.

Its value is ``<key id>:<hex>``, the hex being HMAC-SHA-256 (RFC 2104) over the four parts record key, type, id and
value, each preceded by its length as 8 little-endian bytes, so that no two records share a message.
"""

import hashlib
import hmac
from collections.abc import Mapping

from mlmm.events.headers import rfc3339

__all__ = ["NOT_SIGNED", "SIGNATURE", "sign", "unknown_key", "verify"]

SIGNATURE = "mlmm_signature"
"""Name of the header."""
NOT_SIGNED = "not signed"
"""What `verify` says of a record without a signature."""
_LONGEST_KEY_ID = 64
_NO_DATES: Mapping[str, int] = {}


def unknown_key(key_id: str) -> str:
    """Return what `verify` says of a record that is signed with a key that the reader does not have."""
    return f"signed with the unknown key {key_id!r}"


def _digest(secret: bytes, record_key: bytes, type_: str, id_: str, value: bytes) -> str:
    mac = hmac.new(secret, digestmod=hashlib.sha256)
    for part in (record_key, type_.encode(), id_.encode(), value):
        mac.update(len(part).to_bytes(8, "little"))
        mac.update(part)
    return mac.hexdigest()


def sign(  # noqa: PLR0917 - in the order in which they are signed
    key_id: str,
    secret: bytes,
    record_key: bytes,
    type: str,  # noqa: A002 - CloudEvents' names
    id: str,  # noqa: A002
    value: bytes,
) -> bytes:
    """Value of the header ``mlmm_signature`` for one record.

    Parameters
    ----------
    key_id : str
        Name of the key, by which a reader finds the secret.
    secret : bytes
        The shared secret.
    record_key, type, id, value
        Kafka key, ``ce_type``, ``ce_id`` and value of the record.
    """
    return f"{key_id}:{_digest(secret, record_key, type, id, value)}".encode()


def verify(  # noqa: PLR0917 - in the order in which they are signed
    header_value: bytes | None,
    keys: Mapping[str, bytes],
    record_key: bytes,
    type: str,  # noqa: A002 - CloudEvents' names
    id: str,  # noqa: A002
    value: bytes,
    *,
    until: Mapping[str, int] = _NO_DATES,
    now: int = 0,
) -> str | None:
    """Say why a signature does not hold, or None where it does.

    Parameters
    ----------
    header_value : bytes or None
        Value of ``mlmm_signature``; None where the record has none.
    keys : Mapping[str, bytes]
        Key id → secret. Several while a key is being changed.
    record_key, type, id, value
        Kafka key, ``ce_type``, ``ce_id`` and value of the record.
    until : Mapping[str, int], optional
        Key id → microseconds from which on the key is refused; a key that is not named has no end.
    now : int
        Microseconds.

    Returns
    -------
    str or None
        One line of at most some 200 characters, whatever the record holds.
    """
    if header_value is None:
        return NOT_SIGNED
    try:
        key_id, _, digest = header_value.decode("ascii").rpartition(":")
    except UnicodeDecodeError:
        return "signature is not ASCII"
    if not 0 < len(key_id) <= _LONGEST_KEY_ID:
        return "signature is not of the form KEY:HEX"
    secret = keys.get(key_id)
    if secret is None:
        return unknown_key(key_id)
    if not hmac.compare_digest(digest, _digest(secret, record_key, type, id, value)):
        return f"signature does not match key {key_id!r}"
    if key_id in until and until[key_id] <= now:
        return f"signed with the retired key {key_id!r}, which was accepted until {rfc3339(until[key_id])}"
    return None
