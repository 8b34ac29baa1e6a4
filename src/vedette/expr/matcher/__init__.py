r"""The matcher: thousands of rules over one event, each rule looked at only when something in the event brings it up.

How: events are routed by the fields that most rules pin (Channel and EventID); a partition reads only the fields that
its rules use. Every rule has a witness: a few literals (or other questions) of which one must hold for it to be true.
The witnesses of all rules on a field are watched for in one pass, and what a value brings up is remembered by value; a
rule that was brought up is asked in full, and the answer is remembered by row.

Of many lines of JSON, `Matcher.skimmer` rules most out by their bytes alone.

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
