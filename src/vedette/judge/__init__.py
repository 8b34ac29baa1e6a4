"""Judgement: rules and models turn events and features into signals and decisions.

Sigma rules, payment rules and models each have their own room inside; they meet in the nouns of `core` and in the one
expression language of `expr`.
"""
