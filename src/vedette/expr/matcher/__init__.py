r"""The matcher: thousands of rules over one event, each distinct question asked once per distinct value.

How: events are routed by the fields that most rules pin (Channel and EventID); a partition reads only the fields that
its rules use; the row of those values is looked up among rows already judged; for a new row each field's value is
looked up among values already seen; for a new value one automaton, one hash lookup and one regex set answer everything
any rule asks of that field; true answers name candidate rules by their witnesses; only those are evaluated.

It agrees with `expr.reference` on every event, or refuses a rule when it is built. See docs/decisions/expr.md.

Example:
    >>> from vedette.expr.matcher import Matcher
    >>> from vedette.expr.nodes import Field, Known, Text, TextMatch
    >>> matcher = Matcher([Known(Text(Field("Image"), TextMatch.ENDS, "\\cmd.exe"))])
    >>> matcher.match({"Image": "C:\\Windows\\CMD.EXE"}), matcher.match({})
    ((0,), ())
"""

from vedette.expr.matcher.engine import Matcher

__all__ = ["Matcher"]
