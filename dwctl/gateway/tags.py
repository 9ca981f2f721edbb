"""Tags of a request: words that its sender gives it, to find it again by.

They come in a header of dwctl's own, ``x-dwctl-tags: checkout, team=search``, whatever the dialect, so that no body is read for them;
no provider is sent it. As in any header that is a list (RFC 9110, 5.6.1) empty elements do not count, and its lines are one list.
"""

import re
from collections.abc import Iterable

from dwctl.errors import bad_request
from dwctl.ledger.cleaning import MAX_TAG, MAX_TAGS

HEADER = "x-dwctl-tags"

_TAG = re.compile(rf"[A-Za-z0-9._:=/-]{{1,{MAX_TAG}}}")


def parse(lines: Iterable[str]) -> tuple[str, ...]:
    """The tags of the header's lines in their order, each once. Raises GatewayError 400 ``invalid_tags``."""
    tags = [tag for element in ",".join(lines).split(",") if (tag := element.strip(" \t"))]
    for place, tag in enumerate(tags, 1):
        if not _TAG.fullmatch(tag):
            raise bad_request(
                f"x-dwctl-tags: tag {place} is not made of 1 to {MAX_TAG} of the characters A-Z a-z 0-9 . _ : = / -"
                " (and tags are separated by commas).",
                code="invalid_tags",
                param=HEADER,
            )
    unique = tuple(dict.fromkeys(tags))
    if len(unique) > MAX_TAGS:
        raise bad_request(
            f"x-dwctl-tags: a request takes at most {MAX_TAGS} tags. Leave out those that you do not search by.",
            code="invalid_tags",
            param=HEADER,
        )
    return unique
