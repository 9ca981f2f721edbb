"""What a handler of the API gets."""

from dwctl import doorway
from dwctl.operations.services import Services

Context = doorway.Context[Services]
