"""Whose certificates are believed: those of the system's authorities, and of the ones that are shipped, since the one-file program
does not find every system's."""

import ssl

import certifi


def trusting() -> ssl.SSLContext:
    """For a client's side of TLS."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
