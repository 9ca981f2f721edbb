"""The demo: the printed line works when pasted, and whoever signs in can call its models as well."""

import asyncio
import re
from pathlib import Path

from dwctl.demo import Demo
from tests.administration import configuration, serving
from tests.pasted import execute
from tests.web.visitor import Visitor


async def test_the_printed_line_works_and_the_administrator_has_credits(sqlite_url: str, data_dir: Path, tmp_path: Path) -> None:
    config = configuration(data_dir, sqlite_url)
    async with serving(sqlite_url, config) as server:
        await (await Demo.start(server.services, config)).close()
        demo = await Demo.start(server.services, config)  # as when it is served again
        line = demo.announcement(server.url).partition("curl ")[2]
        assert '"content":' in await asyncio.to_thread(execute, "bash", f"curl -fsS {line}", tmp_path)
        visitor = await Visitor.sign_in(server)
        answer = await visitor.send("/playground", [("model", "demo-chat"), ("prompt", "Hello")])
        assert re.findall(r'role="alert">([^<]*)', answer.body) == []
        assert "tokens in" in answer.body
        granted = await server.services.store.fetch("SELECT amount_nano FROM credits_transactions WHERE transaction_type = 'admin_grant'")
        assert [row["amount_nano"] for row in granted] == [100 * 10**9] * 2
        await demo.close()


async def test_a_demo_whose_user_was_deleted_is_served_again(sqlite_url: str, data_dir: Path) -> None:
    config = configuration(data_dir, sqlite_url)
    async with serving(sqlite_url, config) as server:
        services = server.services
        await (await Demo.start(services, config)).close()
        [user] = await services.store.fetch("SELECT id FROM users WHERE email = 'demo@localhost'")
        assert (await server.admin("DELETE", f"/users/{user['id']}")).status == 204
        await (await Demo.start(services, config)).close()
        [again] = await services.store.fetch("SELECT id FROM users WHERE live_email = 'demo@localhost'")
        assert services.ledger.balances.balance(again["id"]) == 100 * 10**9
