"""The nouns and the floor everything else stands on: events, money, errors, time, the log and the database.

Nothing here knows about rules, payments or HTTP. A noun that two rooms share is defined here once; a room's own nouns
stay in that room.

Example:
    >>> from vedette.core.event import Entity
    >>> Entity("card", "c-42").key
    'card:c-42'
"""
