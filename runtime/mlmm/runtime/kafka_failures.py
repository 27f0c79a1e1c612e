"""Why a broker can't be reached: what kafka-python 3.0 knows, logs, and leaves out of its "unable to bootstrap".

Mended on its connection manager: the most telling failure is kept, a refused logon ends the search for a broker at once
(each further try would be one more towards locking the account), a TLS handshake ends with the time for connecting (a
server that reads and says nothing, such as a plain one, held a constructor for ever: tried), and what a broker said
just before it hung up is read (it was thrown away where both came with one read: then a refused logon looked like a
lost connection, tried).
"""

import functools
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmm.runtime.settings import KafkaSettings

__all__ = ["client", "explain", "told"]

_NOT_REACHED = (
    "Start the broker, or set bootstrap_servers in [kafka] (MLMM_KAFKA__BOOTSTRAP_SERVERS) to where it is; "
    "with TLS or SASL, security_protocol must fit its listener"
)
_MISMATCHES = (62, 64)
"""OpenSSL's codes for a certificate that holds another name, or another IP address."""


def client(configs: dict[str, Any]) -> Any:
    """Return a ``KafkaNetClient`` whose manager keeps its ``failure``."""
    from kafka.net.compat import KafkaNetClient  # noqa: PLC0415 - importing kafka takes 0.2 s
    from kafka.net.selector import NetworkSelector  # noqa: PLC0415 - see above

    net = NetworkSelector(**configs)
    return KafkaNetClient(net=net, manager=_manager()(net, **configs), **configs)


def told(kafka_client: Any, error: Exception) -> Exception:
    """Return what to raise in place of ``error``: the failure behind it, where the client found no broker in time."""
    from kafka.errors import KafkaTimeoutError  # noqa: PLC0415 - see above

    failure: Exception | None = kafka_client._manager.failure  # noqa: SLF001 - ours, see `client`
    return failure if failure is not None and isinstance(error, KafkaTimeoutError) else error


def explain(error: Exception, kafka: "KafkaSettings") -> tuple[str, str]:
    """Return what happened and what to do about it, for an error of kafka-python; no secret stands in either."""
    from kafka.errors import (  # noqa: PLC0415 - see above
        AuthorizationError,
        SaslAuthenticationFailedError,
        UnsupportedSaslMechanismError,
    )

    said = str(error.args[0]) if error.args and error.args[0] else type(error).__name__
    if isinstance(error, SaslAuthenticationFailedError):
        return "it refused the logon", "Check sasl_mechanism, sasl_username and sasl_password in [kafka]"
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"it takes no logon by {kafka.sasl_mechanism}", "Set sasl_mechanism in [kafka] to one that it takes"
    if isinstance(error, AuthorizationError):
        who = kafka.sasl_username or "this client"
        remedy = f"Give {who} the rights of its role: docs/security.md has the commands (kafka-acls)"
        return f"{who} is not allowed to do this ({type(error).__name__}: {said})", remedy
    tls = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(tls, ssl.SSLCertVerificationError):
        if tls.verify_code in _MISMATCHES:
            return said, "Name the broker as its certificate does, in bootstrap_servers and in its advertised.listeners"
        return said, "Set ssl_cafile in [kafka] to the certificate of the authority that signed the broker's"
    if "alert" in said.lower():
        return said, "The broker wants a certificate of ours: set ssl_certfile and ssl_keyfile in [kafka]"
    return said, _NOT_REACHED


@functools.cache
def _transports() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return kafka-python's transports, without and with TLS, mended."""
    from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport  # noqa: PLC0415 - see above

    class Reading:
        def _sock_recv(self) -> tuple[bytes, Exception | None]:
            data, error = super()._sock_recv()  # type: ignore[misc]
            return data, None if data else error  # the end of the stream comes again with the next read

    class PlainTransport(Reading, KafkaTCPTransport):
        pass

    class TlsTransport(Reading, KafkaSSLTransport):
        async def handshake_until(self, timeout_at: float | None) -> None:
            while True:
                try:
                    self._sock.do_handshake()
                except ssl.SSLWantReadError:
                    await self._net.wait_read(self._sock, timeout_at=timeout_at)
                except ssl.SSLWantWriteError:
                    await self._net.wait_write(self._sock, timeout_at=timeout_at)
                else:
                    return

    return PlainTransport, TlsTransport


@functools.cache
def _manager() -> Callable[..., Any]:
    from kafka.errors import (  # noqa: PLC0415 - see above
        KafkaConnectionError,
        KafkaTimeoutError,
        SaslAuthenticationFailedError,
        UnsupportedSaslMechanismError,
    )
    from kafka.net.inet import create_connection  # noqa: PLC0415 - see above
    from kafka.net.manager import KafkaConnectionManager  # noqa: PLC0415 - see above

    plain, tls = _transports()
    refusals = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)

    class Manager(KafkaConnectionManager):
        failure: Exception | None = None

        async def _connect(self, node: Any, conn: Any, **options: Any) -> None:
            searching, close = self.broker_version_data is None, conn.close

            def note(error: Exception | None = None) -> None:
                if error is not None and (self.failure is None or _weight(error) >= _weight(self.failure)):
                    self.failure = error

            def noted_close(error: Exception | None = None) -> None:
                note(error)  # a refusal may come after the end of the stream that follows it
                close(error)

            conn.close = noted_close
            for future in (conn.init_future, conn.close_future):
                future.add_errback(note)
            await super()._connect(node, conn, **options)
            if searching and isinstance(self.failure, refusals):
                self._auth_failures[node.node_id] = self.failure

        async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
            sock = await create_connection(
                self._net,
                node.host,
                node.port,
                self.config["socket_options"],
                proxy_url=self.config["proxy_url"],
                timeout_at=timeout_at,
            )
            if not self.ssl_enabled:
                return plain(self._net, sock, host=node.host)
            transport = tls(self._net, sock, host=node.host, ssl_context=self.config["ssl_context"])
            try:
                await transport.handshake_until(timeout_at)
            except (OSError, KafkaTimeoutError) as error:
                transport.close()
                raise KafkaConnectionError(_handshake(node, error)) from error
            return transport

    def _weight(error: Exception) -> int:
        """How much a failure says: refused logons first, then TLS, then all else but time that ran out."""
        if isinstance(error, refusals):
            return 3
        late = isinstance(error, KafkaTimeoutError) or isinstance(error.__cause__, KafkaTimeoutError)
        return 0 if late else 2 if isinstance(error.__cause__, OSError) else 1

    return Manager


def _handshake(node: Any, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS with {node.host}:{node.port}: certificate refused: {error.verify_message.rstrip('.')}"
    late = "it said nothing in time"
    reason = getattr(error, "reason", None) or (str(error) if isinstance(error, OSError) else late)
    return f"TLS with {node.host}:{node.port}: no handshake: {reason}"
