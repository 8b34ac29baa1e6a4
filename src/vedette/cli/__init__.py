"""The `vedette` command: one module a verb, imported only when that verb is asked for.

A verb is a file here with a docstring, whose first line is its one-line help, and `register(app)`, which adds one
command or sub-application of the file's name. `main` finds verbs by their files; there is no list to keep.

Example:
    >>> from vedette.cli.main import verbs
    >>> "main" in verbs()
    False
"""
