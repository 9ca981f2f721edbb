"""Accounts: who somebody is, and what they may do.

In: API key secrets, session tokens, passwords. Out: a ``Principal`` (on whose behalf a model is called) or an ``Actor``
(who administers), and the policy table's yes or no. Editing of users, groups and keys is in ``dwctl.operations``.
"""

from dwctl.accounts.actors import CLI, SYSTEM, Actor, ProxyUser
from dwctl.accounts.policy import allows, allows_for, require, require_for
from dwctl.accounts.principals import NIL, Keyring, hash_secret, hint_of, new_secret

__all__ = [
    "CLI",
    "NIL",
    "SYSTEM",
    "Actor",
    "Keyring",
    "ProxyUser",
    "allows",
    "allows_for",
    "hash_secret",
    "hint_of",
    "new_secret",
    "require",
    "require_for",
]
