import uuid

from perron.admission.children import child_id

REQUEST = "6a8f5f04-42a6-4a0c-9d2f-1f3a5b7c9d11"


def test_the_same_request_has_the_same_children() -> None:
    assert child_id("key_a", "org_a", REQUEST, "reserve") == child_id(
        "key_a", "org_a", REQUEST.upper(), "reserve"
    )


def test_no_two_gateways_tenants_requests_or_children_meet() -> None:
    other = str(uuid.uuid4())
    ids = {
        child_id(key, organization, request, child)
        for key in ("key_a", "key_b")
        for organization in ("org_a", "org_b")
        for request in (REQUEST, other)
        for child in ("reserve", "decide")
    }

    assert len(ids) == 16
    assert all(uuid.UUID(found).version == 5 for found in ids)


def test_a_request_without_an_id_has_children_without_ids() -> None:
    assert not child_id("key_a", "org_a", "", "reserve")
