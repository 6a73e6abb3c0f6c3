"""Heartbeats of nodes that lie about users: these have no more than the node says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.reported import GIB, beat
from lmxd.fleet.choosing.belief import believable
from lmxd.fleet.reports import UserUse

HONEST = {"ada": UserUse(use=3.0 * GIB, bytes=4 * GIB, leases=2, waiting=1), "bob": UserUse(bytes=GIB, leases=1)}


def test_what_a_node_may_have_is_believed_as_it_is() -> None:
    said = beat("n1", 1, 0.0, free=8, vacant={"m": 4}, waiting=1, users=HONEST)
    assert believable(said) == said


@pytest.mark.parametrize(
    "lie", [UserUse(leases=10_000), UserUse(bytes=2**60), UserUse(waiting=10_000), UserUse(use=1e30)]
)
def test_a_user_has_nothing_where_the_node_has_nothing(lie: UserUse) -> None:
    said = beat("n1", 1, 0.0, free=0, users={"ada": lie})
    said = type(said)(node="n1", started="s", number=1, sent=0.0, users=said.users)
    assert believable(said).users == {"ada": UserUse()}


@given(
    users=st.dictionaries(
        st.sampled_from("abc"),
        st.builds(
            UserUse,
            use=st.floats(0, 1e30),
            bytes=st.integers(0, 2**62),
            leases=st.integers(0, 2**62),
            waiting=st.integers(0, 2**62),
        ),
    )
)
def test_all_users_together_have_no_more_than_the_node(users: dict[str, UserUse]) -> None:
    said = beat("n1", 1, 0.0, free=8, vacant={"m": 4}, waiting=3, users=users)
    found = believable(said).users.values()
    assert sum(x.bytes for x in found) <= sum(room.capacity for room in said.rooms)
    assert sum(x.leases for x in found) <= 4
    assert sum(x.waiting for x in found) <= 3
    assert believable(believable(said)).users.keys() == users.keys()
