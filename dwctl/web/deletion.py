"""What a deletion takes with it, in sentences."""

from dwctl.operations.consequences import Consequences

_WORDS = {
    "models": ("model goes with it", "models go with it"),
    "groups": ("group loses access to it", "groups lose access to it"),
    "prices": ("price ends", "prices end"),
    "api_keys": ("API key stops working", "API keys stop working"),
    "users": ("user loses what only this gives them", "users lose what only this gives them"),
}


def sentences(found: Consequences) -> list[str]:
    """A sentence for each thing that uses it, the requests of the last hour, and what stays."""
    told = [f"{use.count:,} {_WORDS[use.what][use.count != 1]}." for use in found.uses]
    used = found.requests_last_hour
    told.append(
        f"{used:,} request{' used' if used == 1 else 's used'} it in the last hour." if used else "Nothing has used it in the last hour."
    )
    told.append("Requests that were made, and what they cost, stay on record.")
    return told
