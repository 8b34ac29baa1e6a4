"""What comes in: files and sources, quarantine, the event store, features, labels and queries.

A source file says how one kind of record is read; everything the product knows about a log format stands there. A
record becomes an `Event`, or a quarantine row with its reason: never nothing.

Example:
    >>> from vedette.sense.sources import load_sources
    >>> load_sources()["cloudtrail"].parse(b'{"eventName": "ListBuckets"}')
    {'eventName': 'ListBuckets'}
"""
