"""Money that crosses from one service to another: two ledgers in two databases, and between them a bus nobody trusts.

The bus may lose, double and reorder; either side may die at any step. A crossing ends in one of two ways, on both sides
alike: the money was applied there and posted here, or it was refused there and given back here.

    sender     sent -> applied        the reservation is posted: the money has left
                 |  -> reversed       the reservation is given back
                 v
               cancelling -> applied, reversed      past its limit: the sender asks for a verdict and takes what it gets
    receiver   (nothing) -> applied | refused       written once, and told to whoever asks

Here the amount is reserved against a transit account until the verdict is known, so money on its way is a balance that
everyone sees. There is nothing the sender may decide alone: a reservation that lapsed by itself would be given back
while the receiver has applied it. Past the limit it therefore sends `cancel`, with a higher fence: a receiver that has
not seen the money writes `refused` for good, and the money that comes late finds a higher fence and is turned away.
"""

from vedette.move.crossing.message import Kind, Message, parse_message
from vedette.move.crossing.receiver import Receiver, Verdict
from vedette.move.crossing.sender import Crossing, Sender, State

__all__ = ["Crossing", "Kind", "Message", "Receiver", "Sender", "State", "Verdict", "parse_message"]
