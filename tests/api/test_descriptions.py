"""Descriptions over REST: lines of any writing, bounded, cleared by an empty text."""

from tests.administration import Administration

STATIC = {"name": "e", "url": "http://127.0.0.1:9/v1", "skip_fetch": True, "model_filter": ["m"]}
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
"""One picture of three characters, with joiners between them that are not printed."""


async def test_descriptions_follow_one_rule_wherever_they_are(server: Administration) -> None:
    endpoint = (await server.admin("POST", "/endpoints", json=STATIC)).body["id"]
    model = (await server.admin("GET", "/models")).body["data"][0]["id"]
    group = (await server.admin("POST", "/groups", json={"name": "g"})).body["id"]
    key = (await server.admin("POST", "/users/current/api-keys", json={"name": "k"})).body["id"]
    for path, most in (
        (f"/groups/{group}", 2048),
        (f"/users/current/api-keys/{key}", 2048),
        (f"/endpoints/{endpoint}", 2048),
        (f"/models/{model}", 20_000),
    ):
        for sent, stored in (
            (
                " of\r\ntwo lines,\ta family \U0001f468\u200d\U0001f469\u200d\U0001f467 \n",
                "of\ntwo lines,\ta family \U0001f468\u200d\U0001f469\u200d\U0001f467",
            ),
            ("x" * most, "x" * most),
            (None, "x" * most),
            ("", None),
        ):
            answer = await server.admin("PATCH", path, json={"description": sent})
            assert (answer.status, answer.body["description"]) == (200, stored), path
        long = await server.admin("PATCH", path, json={"description": "x" * (most + 1)})
        assert (long.status, long.param) == (400, "description")
        assert f"at most {most} characters" in long.message
        rings = await server.admin("PATCH", path, json={"description": "a\x07b"})
        assert (rings.status, rings.param) == (400, "description")
        assert "control characters" in rings.message
