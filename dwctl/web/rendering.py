"""Templates to HTML: a whole page, or the one block of it that a page already open asks for.

The macros of ``templates/macros`` are there in every template under their file's name (``forms.text(...)``), and see the page that they
are used on as ``shell``.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from dwctl import __version__
from dwctl.accounts.actors import Actor
from dwctl.accounts.policy import allows
from dwctl.config import Config
from dwctl.web import charts, formats
from dwctl.web.assets import Assets
from dwctl.web.context import Context
from dwctl.web.forms import FormState
from dwctl.web.navigation import Entry, Navigation
from dwctl.web.pages import PageRoute
from dwctl.web.preferences import Preferences, read_preferences
from dwctl.web.signing import Flash, Keepsakes

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
FOLDERS = [TEMPLATES]
"""Where templates are looked for."""
RESUME = "resume"
"""The word of the address of a page from which a form was sent when the session had ended."""
MACROS = ("icons", "live", "forms", "badges", "cards", "charts", "tables", "snippets", "dialogs", "empty", "requests", "usage")
"""In the order in which they may use each other."""


class Shell:
    """What every template may ask about the page around it."""

    def __init__(self, renderer: "Renderer", context: Context, keepsakes: Keepsakes) -> None:
        self._renderer = renderer
        self._context = context
        self._keepsakes = keepsakes
        self.path: str = context.request.path
        self.actor: Actor | None = context.visitor
        self.preferences: Preferences = read_preferences(context.request)
        self.title: str = renderer.title
        self.version = __version__
        self.docs_url: str = renderer.config.metadata.docs_url or "/docs"
        """Where pages of the documentation are, as ``billing.md``: ours, unless the installation has its own."""

    @property
    def here(self) -> str:
        """The page's path and query, to come back to."""
        query = self._context.request.query_string
        return f"{self.path}?{query}" if query else self.path

    @property
    def resumes(self) -> bool:
        """Whether a form was sent from this page in a session that had ended, and somebody is back after signing in."""
        return RESUME in self._context.request.args

    @cached_property
    def csrf(self) -> str:
        return self._keepsakes.token()

    @cached_property
    def flash(self) -> Flash | None:
        return self._keepsakes.flash()

    @property
    def sections(self) -> list[tuple[str, list[Entry]]]:
        """The navigation of whoever is signed in."""
        if self.actor is None:
            return []
        return [(section, entries) for section, entries in self._renderer.navigation.sections(self.actor, self.path)]

    @property
    def actions(self) -> list[tuple[str, str]]:
        """What whoever is signed in may create: a label and a path."""
        return self._renderer.navigation.actions(self.actor) if self.actor is not None else []

    @property
    def balance(self) -> int | None:
        """The balance of whoever is signed in, in nano-credits."""
        if self.actor is None:
            return None
        return self._context.services.ledger.balances.balance(self.actor.user_id)

    def static(self, name: str) -> str:
        return self._renderer.assets.url(name)

    def may(self, resource: Any, operation: Any) -> bool:
        """Whether a button for this would lead anywhere."""
        return self.actor is not None and allows(self.actor, resource, operation)

    def form(self, action: str) -> FormState:
        """The state of the form that is sent to ``action``: fresh, or as it could not be accepted."""
        state = self._context.form
        return state if isinstance(state, FormState) and state.action == action else FormState()


class Renderer:
    """The templates, compiled once each."""

    def __init__(self, config: Config, assets: Assets, routes: Iterable[PageRoute]) -> None:
        self.config = config
        self.assets = assets
        self.navigation = Navigation(routes)
        self.title = config.metadata.title or "dwctl"
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDERS),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(formats.filters(config.billing.currency))
        self._environment.globals["geometry"] = charts

    def page(self, template: str, values: dict[str, Any], context: Context, keepsakes: Keepsakes) -> str:
        """A whole page."""
        return self._environment.get_template(template).render(self._values(values, context, keepsakes))

    def block(self, template: str, name: str, values: dict[str, Any], context: Context, keepsakes: Keepsakes) -> str | None:
        """One block of a page, None if it has no such block."""
        found = self._environment.get_template(template)
        block = found.blocks.get(name)
        if block is None:
            return None
        return "".join(block(found.new_context(self._values(values, context, keepsakes))))

    def _values(self, values: dict[str, Any], context: Context, keepsakes: Keepsakes) -> dict[str, Any]:
        known: dict[str, Any] = {"shell": Shell(self, context, keepsakes)}
        for name in MACROS:
            known[name] = self._environment.get_template(f"macros/{name}.html").make_module(known)
        return known | values
