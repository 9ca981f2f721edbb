"""What a page's handler gets."""

from dwctl import doorway
from dwctl.operations.services import Services

Context = doorway.Context[Services]
