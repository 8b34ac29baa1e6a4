"""Small data that looks like a payments company's, made from a seed: card transactions and logs.

The data go through the same verbs and routes as anyone's. What was planted is known to the generators only: a
transaction file carries the label column that a real history carries, and log lines carry no label at all.
"""
