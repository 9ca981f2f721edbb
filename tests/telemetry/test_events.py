"""The event hub: everybody hears, nobody waits, and who comes back misses nothing or is told."""

import pytest

from dwctl.telemetry import events
from dwctl.telemetry.events import Event, Hub, Missed


async def drain(subscription: events.Subscription) -> list[object]:
    found: list[object] = []
    while (event := await subscription.next(0)) is not None:
        found.append(event.payload if isinstance(event, Event) else event)
    return found


async def test_subscribers_hear_what_they_want_from_then_on() -> None:
    hub = Hub()
    assert not hub.listening
    with hub.subscribe(lambda payload: payload != 2) as some, hub.subscribe(lambda payload: True) as all_of_it:
        assert hub.listening
        for number in (1, 2, 3):
            hub.publish(number)
        assert await drain(some) == [1, 3]
        assert await drain(all_of_it) == [1, 2, 3]
        with hub.subscribe(lambda payload: True) as late:
            assert await drain(late) == []


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE", 3)
    hub = Hub()
    with hub.subscribe(lambda payload: True) as slow:
        for number in range(10):
            hub.publish(number)
        assert await drain(slow) == [Missed(7), 7, 8, 9]


async def test_who_comes_back_goes_on_where_it_was() -> None:
    hub = Hub()
    with hub.subscribe(lambda payload: True) as first:
        hub.publish("a")
        event = await first.next(0)
        assert isinstance(event, Event)
    assert hub.listening, "nobody is there for the moment, and what happens now is not lost"
    hub.publish("b")
    with hub.subscribe(lambda payload: True, event.id) as again:
        hub.publish("c")
        assert await drain(again) == ["b", "c"]


@pytest.mark.parametrize("last_id", ["", "nonsense", "0000-1", "x-99999", "-"])
async def test_an_id_that_leads_nowhere_is_a_gap(last_id: str) -> None:
    hub = Hub()
    with hub.subscribe(lambda payload: True, last_id) as subscription:
        hub.publish("now")
        assert await drain(subscription) == [Missed(None), "now"]


async def test_what_has_left_the_ring_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RING", 2)
    hub = Hub()
    with hub.subscribe(lambda payload: True) as first:
        hub.publish(0)
        event = await first.next(0)
        assert isinstance(event, Event)
        for number in (1, 2, 3):
            hub.publish(number)
        with hub.subscribe(lambda payload: True, event.id) as again:
            assert await drain(again) == [Missed(None), 2, 3]


async def test_it_stops_listening_when_nobody_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LINGER_SECONDS", 0.0)
    hub = Hub()
    with hub.subscribe(lambda payload: True) as first:
        hub.publish("a")
        event = await first.next(0)
        assert isinstance(event, Event)
    other = Hub()
    with other.subscribe(lambda payload: True) as quiet:
        assert await quiet.next(0.01) is None, "the loop turned meanwhile"
    assert not hub.listening
    with hub.subscribe(lambda payload: True, event.id) as again:
        assert await drain(again) == [Missed(None)]
