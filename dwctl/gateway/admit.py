"""Second stage: may this request be made? Model, access, rates, concurrency, and a hold on the balance.

The order is that of the reasons a caller can act on: no such model, no access, no credit, too fast. Rates are only looked at here.
What they count is taken when everything else has been granted, as the provider is asked (``take_rates``), so that a refused request
costs neither its key nor anybody else's rate.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from dwctl import tokens
from dwctl.clock import monotonic
from dwctl.dialects import raw_request
from dwctl.errors import INVALID, GatewayError, forbidden, not_found, unavailable
from dwctl.gateway.aside import aside, is_large
from dwctl.ledger import prices
from dwctl.telemetry.alarms import alarm
from dwctl.threads import in_thread

if TYPE_CHECKING:
    from dwctl.accounts.principals import Principal
    from dwctl.gateway.exchange import Exchange
    from dwctl.ledger.prices import Price
    from dwctl.routing import ModelEntry
    from dwctl.routing.limits import RateState

SYSTEM = "00000000-0000-0000-0000-000000000000"


async def admit(exchange: "Exchange") -> None:
    """Grant the request its slots and its hold. Raises GatewayError."""
    principal = exchange.principal
    assert principal is not None
    assert exchange.alias is not None
    model = exchange.gateway.snapshot.models.get(exchange.alias)
    if model is None:
        raise not_found(
            f"The model `{exchange.alias[:128]}` does not exist or you do not have access to it.", code="model_not_found", param="model"
        )
    exchange.model = model
    if not accessible(principal, model):
        raise forbidden(
            f"You do not have access to '{model.alias}'. Please contact your administrator to request access.", code="model_access_denied"
        )
    if not model.candidates:
        raise unavailable("service_unavailable", f"The model '{model.alias}' has no usable provider. Please tell your administrator.")
    price = exchange.price = _price(exchange, principal, model)
    caller = f"key:{principal.key_id or principal.holder_id}"
    if principal.rps is not None and principal.account_id != SYSTEM:
        exchange.rates.append((caller, principal.rps, principal.burst, "API key" if principal.key_id is not None else "account"))
    if model.requests_per_second is not None:
        exchange.rates.append((f"model:{model.id}", model.requests_per_second, model.burst_size, f"model '{model.alias}'"))
    check_rates(exchange)
    for scope, limit in ((caller, principal.max_concurrency), (f"model:{model.id}", model.capacity)):
        enter(exchange, scope, limit)
    if price is not None:
        if is_large(exchange):
            exchange.input_estimate = await _counted(exchange, in_thread(estimate_input, exchange))
        await _hold(exchange, principal, model, price)
    exchange.admitted_at = monotonic()


def check_rates(exchange: "Exchange") -> None:
    """Refuse a request that is too fast for one of its rates, without taking from any. Raises GatewayError 429."""
    for scope, rate, burst, what in exchange.rates:
        refused = exchange.gateway.limits.check(scope, rate, burst, monotonic())
        if refused is not None:
            exchange.limit_headers = _rate_headers(refused)
            raise GatewayError(
                429,
                "rate_limit_error",
                "rate_limit",
                f"You are sending requests too quickly. Please slow down. The {what} allows {rate:g} requests per second.",
                retry_after=refused.retry_after,
            )


def take_rates(exchange: "Exchange") -> None:
    """Count a request that may pass; its answer tells of the rate that has the least left."""
    if not exchange.rates:
        return
    limits, now = exchange.gateway.limits, monotonic()
    states = [limits.take(scope, rate, burst, now) for scope, rate, burst, _ in exchange.rates]
    exchange.limit_headers = _rate_headers(min(states, key=lambda state: state.remaining))


def accessible(principal: "Principal", model: "ModelEntry") -> bool:
    """Whether the key's owner may call the model: through a group, or as the system itself."""
    return principal.account_id == SYSTEM or not principal.groups.isdisjoint(model.groups)


def enter(exchange: "Exchange", scope: str, limit: int | None) -> None:
    """Take one unit of concurrency, kept until the answer has ended. Raises GatewayError 429."""
    slot = exchange.gateway.limits.enter(scope, limit)
    if slot is None:
        what = {"key": "This API key", "model": "The model", "endpoint": "The model's provider"}[scope.partition(":")[0]]
        raise GatewayError(
            429,
            "rate_limit_error",
            "concurrency_limit_exceeded",
            "Too many concurrent requests. Please wait for some requests to complete before sending more. "
            f"{what} allows {limit} at a time.",
            retry_after=1,
        )
    exchange.slots.append(slot)


def _rate_headers(state: "RateState") -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(state.limit),
        "x-ratelimit-remaining-requests": str(state.remaining),
        "x-ratelimit-reset-requests": f"{state.reset_after:.3f}s",
    }


def _price(exchange: "Exchange", principal: "Principal", model: "ModelEntry") -> "Price | None":
    """The price in force, or None if there is nothing to pay. Raises GatewayError 400 ``unpriced_path``."""
    if principal.account_id == SYSTEM or exchange.operation == "count_tokens":
        return None
    price = prices.select(model.prices, principal.purpose)
    if price is None or price.is_free:
        return None
    if exchange.operation == "other" and not price.per_request_pico:
        raise _unpriced(
            f"The model '{model.alias}' is priced by tokens, and {exchange.path} has no price. "
            "Ask your administrator for a tariff with a price per request."
        )
    if exchange.operation == "embeddings" and not (price.per_request_pico or prices.dearest_input(price)):
        raise _unpriced(
            f"The model '{model.alias}' is priced by output tokens, of which embeddings have none. "
            "Ask your administrator for a tariff with an input price."
        )
    return price


def _unpriced(message: str) -> GatewayError:
    return GatewayError(400, INVALID, "unpriced_path", message)


def estimate_input(exchange: "Exchange") -> int:
    """The input tokens that are billed where the provider reports no usage."""
    tokenizer = exchange.model.tokenizer if exchange.model is not None else None
    return tokens.estimate(raw_request.input_text(exchange.request)[0], tokenizer) if exchange.request is not None else 0


async def _counted(exchange: "Exchange", tokens_: Awaitable[int]) -> int | None:
    """The number; None if the tokenizer cannot be loaded, which must not keep anybody from an answer."""
    try:
        return await tokens_
    except Exception as error:
        alarm("gateway", "tokenizer_unavailable", request_id=exchange.id, exc_info=error)
        return None


def _output_limit(exchange: "Exchange", model: "ModelEntry") -> int:
    """The most output tokens of one choice. Strict holds write it into a request that nothing else is certain to bind to it."""
    billing = exchange.gateway.config.billing
    # On other paths no limit of the request is known to bind.
    request = exchange.request if exchange.operation != "other" else None
    limit = named = request.max_output if request is not None else None
    if limit is None:
        limit = model.max_output_tokens or billing.default_output_hold
        if billing.holds != "strict":
            limit = min(limit, billing.default_output_hold)
    if exchange.operation != "text_completion":
        # What is sent counts, and a provider of another dialect is sent no less than this.
        limit = max(limit, model.least_output)
    is_bounded = request is None or request.is_bounded or (named is None and model.max_output_tokens is not None)
    if billing.holds == "strict" and not is_bounded:
        limit = exchange.strict_max_tokens = max(limit, 1)
        exchange.explanation.append(f"max_tokens {limit} was written into the request: holds are strict and it had no certain bound")
    return limit


async def _hold(exchange: "Exchange", principal: "Principal", model: "ModelEntry", price: "Price") -> None:
    """Reserve what the request may cost. Raises GatewayError 402 or 429."""
    gateway = exchange.gateway
    balances = gateway.ledger.balances
    request = exchange.request
    if gateway.config.billing.holds == "off":
        exchange.hold = balances.take(principal.account_id, 0)
        return
    if exchange.operation == "other" and not (price.output_pico or prices.dearest_input(price)):
        exchange.hold = balances.take(principal.account_id, prices.hold(price, 0, 0))
        return
    output_bound = _output_limit(exchange, model) if exchange.operation != "embeddings" else 0
    if request is None:
        assert exchange.form is not None
        form_bound = exchange.form.input_bound()
        wanted = exchange.form.text("n")
        if wanted is not None:
            if (choices := raw_request.digits(wanted)) is None:
                raise raw_request.no_number("n")
            output_bound *= max(1, choices)
        exchange.hold = balances.take(principal.account_id, prices.hold(price, form_bound, output_bound))
        return
    output_bound *= request.choices
    if exchange.operation == "text_completion":
        output_bound *= await aside(exchange, raw_request.prompts, request)
    input_bound = raw_request.input_bound(exchange.body)
    if input_bound is not None:
        amount = prices.hold(price, input_bound, output_bound)
        if amount <= balances.available(principal.account_id):
            exchange.hold = balances.take(principal.account_id, amount)
            return
    text, media = await aside(exchange, raw_request.input_text, request)
    is_counted = len(text) <= tokens.COUNTED_UP_TO
    counted = await _counted(exchange, tokens.count_in_thread(text, model.tokenizer)) if is_counted else None
    if counted is None:
        counted = tokens.bound(text)
    # Roles and separators of a chat template are tokens too, a handful for each message.
    counted += 16 + 8 * exchange.body.count(b'"role"') + media * raw_request.TOKENS_PER_MEDIA_PART
    if input_bound is not None:
        counted = min(counted, input_bound)
    exchange.hold = balances.take(principal.account_id, prices.hold(price, counted, output_bound))
