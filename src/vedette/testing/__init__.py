"""Means for testing engines, sources and rules of one's own; the product itself imports nothing from here.

`events.satisfy` makes an event that makes an expression true, `events.neighbours` changes one field of it at a time,
`expressions.expressions` draws expressions, and `pairs.pairs` makes questions of them whose answers the reference
gives: an engine that agrees on ten thousand of them, absent and null fields among them, has been asked what matters.

Example:
    >>> from vedette.expr.nodes import And, Field, Known, Not, Text, TextMatch
    >>> from vedette.testing.events import neighbours, satisfy
    >>> image = Known(Text(Field("Image"), TextMatch.ENDS, "cmd.exe"))
    >>> node = And((image, Not(Known(Text(Field("User"), TextMatch.EQUALS, "root")))))
    >>> event = satisfy(node)
    >>> event
    {'Image': 'cmd.exe'}
    >>> [(one.kind.value, one.event) for one in neighbours(node, event)][:2]
    [('absent', {}), ('null', {'Image': None})]
"""
