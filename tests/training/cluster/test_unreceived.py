"""What a machine of the cluster keeps until its follower has it."""

from __future__ import annotations

from core.cluster.parcels import Parcel, Shipment
from training.cluster.messages import Ended, Line, Logged, Message, NewBase, Results, SavedStep
from training.cluster.unreceived import Unreceived

FILES = Shipment(Parcel("step", ()), ())


def test_files_are_kept_in_order_until_they_are_received() -> None:
    unreceived = Unreceived()
    step, base, results = SavedStep(FILES), NewBase(FILES), Results(FILES, ())
    messages: list[Message] = [Line("{}"), step, Logged("words"), base, results, Ended(0)]
    assert [unreceived.sent(one) for one in messages] == messages
    kept: list[list[Message]] = []
    while unreceived._kept:
        kept.append(list(unreceived._kept))
        unreceived.received()
    assert kept == [[step, base, results], [base, results], [results]]
    unreceived.received()  # one word too many harms nothing
