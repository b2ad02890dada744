"""Where the requests of a channel go."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from model.cluster.affinity import Homes, session_of

ROOM = 16
NAMES = ("a", "b", "c", "d")
LOADS = st.fixed_dictionaries({name: st.integers(0, 40) for name in NAMES})


@given(loads=LOADS, sessions=st.lists(st.integers(0, 5), max_size=20))
def test_each_replica_is_asked_once(loads: dict[str, int], sessions: list[int]) -> None:
    homes = Homes(ROOM)
    for channel in sessions:
        assert sorted(homes.rank(session_of(channel, 0), loads)) == sorted(NAMES)


@given(loads=LOADS, later=LOADS)
def test_a_channel_stays_unless_it_would_wait_or_be_slow(
    loads: dict[str, int], later: dict[str, int]
) -> None:
    homes = Homes(ROOM)
    home = homes.rank("7-0", loads)[0]
    assert loads[home] == min(loads.values())
    least, mine = min(later.values()), later[home]
    chosen = homes.rank("7-0", later)[0]
    if mine < ROOM and mine < least + ROOM / 2:
        assert chosen == home
    elif mine >= least + ROOM / 2 or least < ROOM:
        assert later[chosen] == least
    else:  # all of them are full: nothing is won elsewhere
        assert chosen == home


def test_the_new_home_is_kept() -> None:
    homes = Homes(ROOM)
    homes.settle("7-0", "a")
    moved = homes.rank("7-0", {"a": ROOM, "b": 3})[0]
    assert moved == "b"
    assert homes.rank("7-0", {"a": 0, "b": 5})[0] == "b"


def test_many_new_channels_of_one_moment_are_spread() -> None:
    homes, loads = Homes(ROOM), Counter(dict.fromkeys(NAMES, 0))
    for channel in range(1, 65):
        loads[homes.rank(session_of(channel, 0), loads)[0]] += 1
    assert loads == dict.fromkeys(NAMES, ROOM)


def test_channels_of_quiet_times_are_spread_and_found_again_by_another_gateway() -> None:
    idle = dict.fromkeys(NAMES, 0)
    chosen = [Homes(ROOM).rank(session_of(channel, 0), idle)[0] for channel in range(1, 1001)]
    again = [Homes(ROOM).rank(session_of(channel, 0), idle)[0] for channel in range(1, 1001)]
    assert chosen == again
    counts = Counter(chosen)
    assert all(150 <= counts[name] <= 350 for name in NAMES)


def test_where_a_reply_was_lost_is_asked_last() -> None:
    homes = Homes(ROOM)
    idle = dict.fromkeys(NAMES, 0)
    home = homes.rank(session_of(7, 0), idle)[0]
    order = homes.rank(session_of(7, 1), idle)
    assert order[-1] == home
    assert homes.rank(session_of(7, 1), idle)[0] == order[0]
    assert homes.rank(session_of(7, 2), idle)[-1] == order[0]


def test_the_only_replica_is_asked_again() -> None:
    homes = Homes(ROOM)
    assert homes.rank("7-0", {"a": 0}) == ["a"]
    assert homes.rank("7-1", {"a": 0}) == ["a"]
    assert homes.rank("7-1", {}) == []


def test_a_replica_that_is_gone_is_nobodys_home() -> None:
    homes = Homes(ROOM)
    homes.settle("7-0", "a")
    assert homes.rank("7-0", {"b": 30, "c": 2})[0] == "c"


def test_requests_of_no_channel_have_no_home() -> None:
    homes = Homes(ROOM)
    first = {homes.rank("", dict.fromkeys(NAMES, 0), f"request {n}")[0] for n in range(100)}
    assert first == set(NAMES)
    homes.settle("", "a")
    assert homes.rank("", {"a": 3, "b": 1})[0] == "b"
