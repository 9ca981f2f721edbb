"""What a text may hold that is kept."""

import re

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What no database column and no UTF-8 output can hold."""
