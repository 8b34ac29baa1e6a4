"""The Python client: HTTP only, for programs that ask a Vedette service for decisions.

A payment does not wait for us: whatever happens to the service, `Client.decide` answers within its deadline, by the
merchant's own policy when nobody else does.

Example:
    >>> from vedette.client import Client, Policy
    >>> client = Client("http://127.0.0.1:1", "vk_test_none", policy=Policy.REVIEW, deadline_s=0.05)
    >>> answer = client.decide({"TRANSACTION_ID": 1})
    >>> answer.action, answer.fallback
    ('review', 'fallback.service')
"""

from vedette.client.analyst import Analyst, Frame
from vedette.client.client import Answer, Client, Policy
from vedette.client.plot import Plot
from vedette.client.retry import Retry

__all__ = ["Analyst", "Answer", "Client", "Frame", "Plot", "Policy", "Retry"]
