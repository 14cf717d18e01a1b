"""The attacks begin from requests that break no rule; otherwise they would only ever test validation."""

import pytest

from perron.chassis.interceptors import validation
from tests.attacks.requests import Requests, alternatives
from tests.rpcs import DECLARED, Rpc


@pytest.mark.parametrize("rpc", DECLARED, ids=str)
def test_a_valid_request_can_be_made_for_every_rpc(rpc: Rpc) -> None:
    for alternative in alternatives(rpc):
        request = Requests().valid(rpc, alternative=alternative)

        assert (error := validation.check(request)) is None, error
        for item in request.items if rpc.batch_item is not None else ():
            assert (error := validation.check(item)) is None, error
