"""Signatures of commands: the header ``mlmm_signature``.

Its value is ``<key id>:<hex>``, the hex being HMAC-SHA-256 (RFC 2104) over the four parts record key, type, id and
value, each preceded by its length as 8 little-endian bytes, so that no two records share a message.
"""

import hashlib
import hmac
from collections.abc import Mapping

__all__ = ["SIGNATURE", "sign", "verify"]

SIGNATURE = "mlmm_signature"
"""Name of the header."""


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
    """
    if header_value is None:
        return "not signed"
    try:
        key_id, _, digest = header_value.decode("ascii").rpartition(":")
    except UnicodeDecodeError:
        return "signature is not ASCII"
    if not key_id:
        return "signature is not of the form KEY:HEX"
    secret = keys.get(key_id)
    if secret is None:
        return f"signed with the unknown key {key_id!r}"
    if not hmac.compare_digest(digest, _digest(secret, record_key, type, id, value)):
        return f"signature does not match key {key_id!r}"
    return None
