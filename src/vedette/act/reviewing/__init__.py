"""Looking at decisions of class review: what to look at first, who looks, when two must, and what comes of it.

A decision whose answer is `review` becomes an item of a queue that is ordered by what it is expected to cost. A person
claims an item for a while, looks, and says what it was; the verdict becomes the label of the decided event.

Example:
    >>> from vedette.act.reviewing.law import Law
    >>> law = Law(currency="EUR", rates={"USD": 0.5})
    >>> law.exposure(20_000, "USD", "product"), law.cost(0.25, 10_000)
    (10000, 2500)
"""
