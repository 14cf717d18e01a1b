from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.identity.grants import Grant

MODELS = ["small", "large", "ft:1"]
NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24", "2001:db8::/32", "2001:db8:1::/48"]
PEERS = [
    "10.1.2.3",
    "10.1.9.9",
    "10.9.9.9",
    "192.0.2.7",
    "198.51.100.1",
    "2001:db8:1::5",
    "2001:db8:2::5",
    "",
]


def sets(values: list[str]) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | st.frozensets(st.sampled_from(values))


grants = st.builds(
    Grant,
    scopes=st.frozensets(st.sampled_from(["INFERENCE", "KEYS_READ", "KEYS_WRITE"])),
    models=sets(MODELS),
    networks=sets(NETWORKS),
    expire_us=st.none() | st.integers(0, 10),
)


def allows(grant: Grant, scope: str, model: str, peer: str, now_us: int) -> bool:
    return (
        scope in grant.scopes
        and (grant.models is None or model in grant.models)
        and grant.admits_peer(peer)
        and not grant.expired(now_us)
    )


@given(
    grants,
    grants,
    st.sampled_from(["INFERENCE", "KEYS_READ", "KEYS_WRITE"]),
    st.sampled_from(MODELS),
    st.sampled_from(PEERS),
    st.integers(0, 11),
)
def test_a_meet_allows_exactly_what_both_allow(
    one: Grant, other: Grant, scope: str, model: str, peer: str, now_us: int
) -> None:
    both = allows(one, scope, model, peer, now_us) and allows(other, scope, model, peer, now_us)
    assert allows(one.meet(other), scope, model, peer, now_us) == both


@given(grants, grants)
def test_a_meet_is_within_each_of_the_two(one: Grant, other: Grant) -> None:
    meet = one.meet(other)
    assert not meet.exceeds(one)
    assert not meet.exceeds(other)


@given(grants)
def test_a_grant_is_within_itself_and_its_own_meet(grant: Grant) -> None:
    assert not grant.exceeds(grant)
    assert grant.meet(grant) == grant


@pytest.mark.parametrize(
    ("field", "wider"),
    [
        (
            "scopes",
            Grant(
                frozenset({"INFERENCE", "KEYS_WRITE"}), frozenset({"small"}), frozenset({"10.1.0.0/16"}), 5
            ),
        ),
        ("allowed_models", Grant(frozenset({"INFERENCE"}), None, frozenset({"10.1.0.0/16"}), 5)),
        (
            "allowed_networks",
            Grant(frozenset({"INFERENCE"}), frozenset({"small"}), frozenset({"10.0.0.0/8"}), 5),
        ),
        (
            "expire_time",
            Grant(frozenset({"INFERENCE"}), frozenset({"small"}), frozenset({"10.1.0.0/16"}), None),
        ),
    ],
)
def test_the_field_that_would_widen_is_named(field: str, wider: Grant) -> None:
    bound = Grant(frozenset({"INFERENCE"}), frozenset({"small"}), frozenset({"10.1.0.0/16"}), 5)
    assert wider.exceeds(bound) == field


def test_a_key_is_expired_at_its_very_instant() -> None:
    assert Grant(expire_us=5).expired(5)
    assert not Grant(expire_us=5).expired(4)


def test_a_network_bound_key_refuses_callers_from_nowhere_known() -> None:
    assert not Grant(networks=frozenset({"0.0.0.0/0"})).admits_peer("")
    assert not Grant(networks=frozenset({"0.0.0.0/0"})).admits_peer("not an address")


def test_an_ipv4_caller_on_a_dual_stack_socket_is_within_ipv4_networks() -> None:
    assert Grant(networks=frozenset({"10.0.0.0/8"})).admits_peer("::ffff:10.1.2.3")


@given(st.sampled_from(NETWORKS), st.sampled_from(NETWORKS))
def test_a_network_exceeds_another_unless_it_is_a_part_of_it(inner: str, outer: str) -> None:
    a, b = ip_network(inner), ip_network(outer)
    within = a.version == b.version and a.subnet_of(b)
    assert bool(Grant(networks=frozenset({inner})).exceeds(Grant(networks=frozenset({outer})))) != within
