"""``serve --demo``: the simulated provider as an ordinary endpoint, with models, prices, credit and a key.

Everything is applied as an operator would apply a file, so that the first request takes the real way through the gateway.
"""

import os
from pathlib import Path

from dwctl import simulator
from dwctl.accounts.principals import new_secret
from dwctl.config import Config
from dwctl.operations.apply import apply
from dwctl.operations.services import Services
from dwctl.simulator import Simulator

_USER = "demo@localhost"
_KEY_FILE = "demo.key"
_CREDIT = "100"


class Demo:
    """The simulated provider of a demo, and the key to call it with."""

    def __init__(self, provider: Simulator, secret: str) -> None:
        self._provider = provider
        self._secret = secret

    @classmethod
    async def start(cls, services: Services, config: Config) -> "Demo":
        """Start the provider on a free loopback port and apply the demo's endpoint, models, user, key, and credit for the user and the
        administrator."""
        provider = await simulator.start("127.0.0.1", 0, latency=150, token_rate=60)
        secret = _secret(services, config.data_dir / _KEY_FILE)
        prices = [{"input_per_million": "2.50", "output_per_million": "10"}]
        await apply(
            services,
            {
                "endpoints": [{"name": "demo", "url": provider.url, "description": "The simulated provider of serve --demo"}],
                "users": [{"email": _USER, "display_name": "Demo"}],
                "models": [
                    {"alias": "demo-chat", "endpoint": "demo", "model_name": "sim-chat", "groups": ["Everyone"], "prices": prices},
                    {
                        "alias": "demo-embed",
                        "endpoint": "demo",
                        "model_name": "sim-embed",
                        "model_type": "EMBEDDINGS",
                        "groups": ["Everyone"],
                        "prices": [{"input_per_million": "0.02"}],
                    },
                ],
                "keys": [{"user": _USER, "name": "demo", "secret": secret}],
            },
        )
        holders = await services.store.fetch(
            "SELECT id, email FROM users WHERE live_email IN (?, ?)", (_USER, config.admin_email.strip().lower())
        )
        # Named by the accounts, of which there are new ones when somebody has deleted the old: each has its credit once.
        grants = [
            {"user": row["email"], "amount": _CREDIT, "source_id": f"demo-credit-{row['id']}", "description": "Credit of the demo"}
            for row in holders
        ]
        await apply(services, {"grants": grants})
        await services.changes.applied(await services.changes.head())
        return cls(provider, secret)

    def announcement(self, url: str) -> str:
        """The key, and a line that works when pasted, to be printed."""
        return (
            f"  Demo key  {self._secret}\n\n"
            f"  curl {url}/ai/v1/chat/completions \\\n"
            f"    -H 'Authorization: Bearer {self._secret}' -H 'Content-Type: application/json' \\\n"
            """    -d '{"model": "demo-chat", "messages": [{"role": "user", "content": "Hello"}]}'\n"""
        )

    async def close(self) -> None:
        await self._provider.close()


def _secret(services: Services, path: Path) -> str:
    """The demo's key, the same at every start of one data directory until somebody deletes it: then a new one."""
    if path.exists() and services.keyring.find(kept := path.read_text().strip()) is not None:
        return kept
    secret: str = new_secret()[0]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
    return secret
