"""Sigma rules: read from folders and archives, parsed by pySigma, bound to log sources, lowered to `expr`.

Nothing here matches anything: `load` gives each rule's expression per source, and `expr`'s engines run it. What cannot
run is named in `skipped` with the reason; one bad file never stops the others.

Example:
    >>> from vedette.judge.sigma.files import RuleFile
    >>> from vedette.judge.sigma.load import build
    >>> from vedette.judge.sigma.logsources import LogSources
    >>> from vedette.expr.printer import to_text
    >>> from vedette.sense.sources import load_sources
    >>> places = LogSources({name: source.logsource for name, source in load_sources().items()})
    >>> text = b"{title: t, id: x, logsource: {product: aws, service: cloudtrail},"
    >>> text += b" detection: {s: {eventName: StopLogging}, condition: s}}"
    >>> rule = build([RuleFile("t.yml", text)], places).rules[0]
    >>> to_text(rule.nodes["cloudtrail"])
    'known(eventName is "StopLogging")'
"""
