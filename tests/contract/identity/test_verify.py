async def test_a_new_organizations_key_is_valid(identity):
    tenant = await identity.tenant()
    assert await identity.state(tenant.secret) == "VALID"
