"""The ledger: what a request costs, who can pay for it, and the record of everything that happened, to the nano-credit.

In: prices and usage; the begin of a request before the provider is asked, its end before the answer is complete. Out: holds
and refusals before the fact; rows, charges, balances and hourly sums in the database after it. Between the two lies the
journal (``journal``), so that neither a crash nor an absent database loses or doubles a charge. docs/billing.md is the
policy in words.
"""

from dwctl.ledger.balances import Hold
from dwctl.ledger.facade import Ledger, LedgerState
from dwctl.ledger.records import Attempt, Begin, Charge, Record

__all__ = ["Attempt", "Begin", "Charge", "Hold", "Ledger", "LedgerState", "Record"]
