import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.chassis.errors import InvalidArgument
from perron.chassis.paging import Pages

PAGES = Pages(b"a secret of the service")


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.text(max_size=64), max_size=4),
    st.text(st.characters(codec="utf-8"), max_size=64),
    st.text(st.characters(codec="utf-8"), max_size=64),
)
def test_a_token_leads_back_to_its_cursor(cursor: list[str | int], scope: str, text: str) -> None:
    token = PAGES.token(cursor, caller_scope=scope, filter_text=text)
    assert PAGES.cursor(token, caller_scope=scope, filter_text=text) == cursor


def test_no_token_is_the_first_page() -> None:
    assert PAGES.cursor("", caller_scope="org_a", filter_text="") is None


@pytest.mark.parametrize(
    ("scope", "text"),
    [("org_b", "keys"), ("org_a", "members"), ("org_ak", "eys"), ("", "org_akeys")],
    ids=["another tenant", "another filter", "joined otherwise", "joined to nothing"],
)
def test_a_token_of_another_list_is_refused(scope: str, text: str) -> None:
    token = PAGES.token(["key_a"], caller_scope="org_a", filter_text="keys")
    with pytest.raises(InvalidArgument) as caught:
        PAGES.cursor(token, caller_scope=scope, filter_text=text)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("token", ["x", "AA", "!!!!", "é", "A" * 1024, "AQ" * 40])
def test_a_forged_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        PAGES.cursor(token, caller_scope="org_a", filter_text="keys")
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


def test_a_changed_token_is_refused() -> None:
    token = PAGES.token(["key_a"], caller_scope="org_a", filter_text="keys")
    for place in range(len(token) - 1):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(InvalidArgument):
            PAGES.cursor(changed, caller_scope="org_a", filter_text="keys")


def test_another_secret_opens_nothing() -> None:
    token = Pages(b"another secret").token(["key_a"], caller_scope="org_a", filter_text="keys")
    with pytest.raises(InvalidArgument):
        PAGES.cursor(token, caller_scope="org_a", filter_text="keys")


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (10**9, 1000)])
def test_page_sizes_are_coerced(asked: int, given_: int) -> None:
    assert PAGES.size(asked) == given_


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        PAGES.size(-1)
