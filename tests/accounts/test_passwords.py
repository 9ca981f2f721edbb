"""Passwords: hashed with the configured parameters, verified with the stored ones."""

import asyncio

import pytest

from dwctl.accounts.passwords import Passwords, generate
from dwctl.config.schema import Password
from dwctl.errors import GatewayError

QUICK = Password(argon2_memory_kib=8, argon2_iterations=1)


async def test_round_trip() -> None:
    passwords = Passwords(QUICK)
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct horsf")
    assert not await passwords.verify(stored, "\ud800")
    assert stored != await passwords.hash("correct horse")


async def test_nothing_opens_an_account_without_a_password() -> None:
    passwords = Passwords(QUICK)
    for stored in (None, "", "nonsense", "$argon2id$v=19$m=8,t=1,p=1$xx"):
        assert not await passwords.verify(stored, "")
        assert not await passwords.verify(stored, "anything")


async def test_other_parameters_still_verify_and_are_outdated() -> None:
    stored = await Passwords(Password(argon2_memory_kib=16, argon2_iterations=2)).hash("secret words")
    passwords = Passwords(QUICK)
    assert await passwords.verify(stored, "secret words")
    assert passwords.outdated(stored)
    assert not passwords.outdated(await passwords.hash("secret words"))


async def test_reference_parameters_are_the_defaults() -> None:
    assert (await Passwords(Password()).hash("x")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_the_loop_turns_while_passwords_are_verified() -> None:
    passwords = Passwords(Password(argon2_memory_kib=65_536, argon2_iterations=2))
    stored = await passwords.hash("x")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.gather(*(passwords.verify(stored, "x") for _ in range(4)))
    counting.cancel()
    assert turns > 10


@pytest.mark.parametrize(
    ("password", "fits"),
    [("1234567", False), ("12345678", True), ("ä" * 4, True), ("x" * 64, True), ("x" * 65, False), ("ä" * 33, False)],
)
def test_length_is_counted_in_bytes(password: str, fits: bool) -> None:
    try:
        Passwords(Password()).check_length(password, field="new_password")
    except GatewayError as error:
        assert not fits
        assert (error.status, error.param) == (400, "new_password")
    else:
        assert fits


def test_generated_passwords_differ_and_fit() -> None:
    made = {generate() for _ in range(100)}
    assert len(made) == 100
    for password in made:
        Passwords(Password()).check_length(password, field="x")
