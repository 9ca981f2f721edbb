"""Configuration: defaults, then ``dwctl.yaml``, then ``DWCTL_*`` variables, then flags.

In: a file, the environment and the command line's overrides. Out: one frozen `Config`, every value of which knows where it
came from. A key that does not exist stops the program and names its file, its line and the nearest key that does.
"""

from dwctl.config.loading import TOKEN, Explained, check_data_dir, explain, find, load, secret_key
from dwctl.config.schema import ROLES, SYSTEM_EMAIL, BodyMode, Config, Key, Role, is_email, keys
from dwctl.config.tls import tls_context

__all__ = [
    "ROLES",
    "SYSTEM_EMAIL",
    "TOKEN",
    "BodyMode",
    "Config",
    "Explained",
    "Key",
    "Role",
    "check_data_dir",
    "explain",
    "find",
    "is_email",
    "keys",
    "load",
    "secret_key",
    "tls_context",
]
