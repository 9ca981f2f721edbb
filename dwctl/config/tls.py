"""The certificate and the key that the server shows its clients."""

import ssl
from typing import NoReturn

from dwctl.config.schema import Config
from dwctl.errors import ConfigurationError


def tls_context(config: Config) -> ssl.SSLContext | None:
    """What a listener needs for HTTPS; None: it speaks HTTP. Raises ConfigurationError that names the files."""
    certificate, key = config.tls.certificate, config.tls.key
    if certificate is None or key is None:
        return None

    def refuse() -> NoReturn:
        raise ConfigurationError(
            f"`tls.key` names {key}, which is encrypted: give one without a passphrase (openssl pkey -in {key} -out ...)"
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except OSError as error:  # ssl.SSLError is one
        reason = (error.reason or "no PEM") if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"`tls.certificate` names {certificate} and `tls.key` names {key}: they must be a PEM certificate and its private key "
            f"({str(reason).replace('_', ' ')})"
        ) from None
    return context
