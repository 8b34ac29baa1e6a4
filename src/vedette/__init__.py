"""Vedette: one engine for payment decisions, threat detection, response and evidence.

Every payment request and every security log line is an *event*. Vedette keeps *features* about the *entities* in it,
applies versioned *rules and models*, and records an explainable *decision*. What is wrong becomes *alerts* and *cases*;
responses and money movements happen exactly once; *evidence* can be replayed and proved.

Importing this package loads no engine and no server. The rooms are imported by name:

Example:
    >>> from vedette.core.money import Money
    >>> str(Money(1999, "EUR"))
    '19.99 EUR'
"""

__version__ = "0.1.0"
