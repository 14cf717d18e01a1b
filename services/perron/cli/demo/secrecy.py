"""Steps 6 and 7: nothing is kept where that was approved, and keys that are not good open nothing."""

import secrets
import time
import uuid
from functools import partial

from perron.api.admission.v1 import admission_service_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import (
    directive_pb2,
    directive_service_pb2,
    directive_service_pb2_grpc,
    record_pb2,
)
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.chassis import credentials
from perron.cli import traces, tracing
from perron.cli.demo import gateway, search
from perron.cli.demo.customer import Customer, refusal
from perron.cli.demo.stage import Stage
from perron.cli.samples import Exchange

_WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "hazel", "indigo", "jasper", "kelp")
_FLUSH_SECONDS = 1.5


def keep_nothing(stage: Stage, customer: Customer, sample: Exchange) -> None:
    """Zero retention is approved while an exchange is open; then its text is looked for in every file."""
    stage.step(6, "Zero retention is approved while an exchange is open")
    text = search.marker()
    spoken = " ".join(secrets.choice(_WORDS) for _ in range(40))
    private = Exchange("a private matter", f"{spoken}: {text}", f"{text} {spoken} {text}")
    admitted = customer.admit(private)
    earlier = len(list(customer.records()))
    asked, approved = _zero_retention(customer)
    stage.find(
        "3-zdr",
        "asked for with reasons, not in force before the review, in force with the approval",
        ok=asked.state == directive_pb2.ZeroRetentionRequest.STATE_REQUESTED
        and not asked.HasField("effective_time")
        and approved.state == directive_pb2.ZeroRetentionRequest.STATE_APPROVED
        and approved.HasField("effective_time"),
    )
    completed = customer.complete(private, admitted)
    stage.find(
        "3-zdr",
        f"the open exchange is settled ({completed.settled_tokens} tokens) and its content discarded",
        ok=admitted.keep_content
        and completed.settled_tokens == gateway.tokens(private)
        and not completed.recorded
        and completed.omission == admission_service_pb2.CompleteResponse.OMISSION_DISCARDED
        and completed.discard_reason == record_pb2.DISCARD_REASON_ZERO_RETENTION,
    )
    later = customer.admit(sample)
    nothing_kept = customer.complete(sample, later)
    stage.find(
        "3-zdr",
        f"new exchanges are not to be kept, and of {earlier} earlier records none is left to read",
        ok=not later.keep_content
        and not later.decision.training_eligible
        and not nothing_kept.recorded
        and earlier > 0
        and not list(customer.records()),
    )
    _search(stage, text, spoken, customer.secret)


def lose_keys(stage: Stage, customer: Customer, sample: Exchange) -> None:
    """A revoked key, a mistyped key and an unknown one."""
    stage.step(7, "A key is revoked, and another mistyped")
    stub = customer.admin.stub(api_key_pb2_grpc.ApiKeyServiceStub)
    created = customer.admin.ask(
        stub.CreateApiKey,
        api_key_pb2.CreateApiKeyRequest(
            request_id=str(uuid.uuid4()), display_name="a laptop", scopes=[roles_pb2.SCOPE_INFERENCE]
        ),
    )
    before = refusal(lambda: customer.admit(sample, created.secret))
    customer.admin.ask(stub.RevokeApiKey, api_key_pb2.RevokeApiKeyRequest(key_id=created.key.key_id))
    after = refusal(lambda: customer.admit(sample, created.secret))
    stage.find(
        "1.1-key",
        "a key works, is revoked, and is refused at the very next call: REVOKED",
        ok=before is None and after is not None and after.error.metadata.get("state") == "REVOKED",
    )
    typo = customer.secret[:-1] + ("0" if customer.secret[-1] != "0" else "1")
    unknown = credentials.with_checksum("live", "0" * credentials.RANDOM_LENGTH)
    customer.admit(sample)  # now the gateway's own key costs the next calls no query
    states, followed = {}, {}
    for name, secret in (("mistyped", typo), ("unknown", unknown)):
        refused = refusal(partial(customer.admit, sample, secret))
        states[name] = refused.error.metadata.get("state", "") if refused else "admitted"
        followed[name] = customer.gateway.trace_id
    queries = {name: _queries(stage, trace_id) for name, trace_id in followed.items()}
    stage.find(
        "1.1-key",
        f"a mistyped key is MALFORMED after {queries['mistyped']} queries, one never given out UNKNOWN "
        f"after {queries['unknown']}, as their traces say",
        ok=states == {"mistyped": "MALFORMED", "unknown": "UNKNOWN"}
        and queries["mistyped"] == 0
        and queries["unknown"] > 0,
    )


def _zero_retention(
    customer: Customer,
) -> tuple[directive_pb2.ZeroRetentionRequest, directive_pb2.ZeroRetentionRequest]:
    directives = customer.admin.stub(directive_service_pb2_grpc.DirectiveServiceStub)
    asked = customer.admin.ask(
        directives.RequestZeroRetention,
        directive_service_pb2.RequestZeroRetentionRequest(
            request_id=str(uuid.uuid4()),
            reasons="The reading room lends to patients; what they ask is medical.",
        ),
    ).zero_retention_request
    reviewer = customer.operator.stub(directive_service_pb2_grpc.DirectiveServiceStub)
    approved = customer.operator.ask(
        reviewer.ReviewZeroRetention,
        directive_service_pb2.ReviewZeroRetentionRequest(
            request_id=str(uuid.uuid4()),
            zero_retention_request_id=asked.zero_retention_request_id,
            verdict=directive_service_pb2.REVIEW_VERDICT_APPROVED,
            note="Legitimate: health data.",
        ),
    ).zero_retention_request
    return asked, approved


def _search(stage: Stage, text: str, spoken: str, secret: str) -> None:
    """Looks for the text now and after the end of the suite, once the searcher has found a planted copy."""
    folder = stage.suite.folder
    decoy = search.marker()
    planted = search.plant(folder, decoy)
    found = {finding.path for finding in search.find(folder, decoy)}
    for path in planted:
        path.unlink()
    able = found == set(planted)
    kinds = ", ".join(search.forms(decoy))
    stage.find(
        "3-zdr",
        f"the searcher finds {len(found)} planted copies: {kinds}",
        ok=able and not search.find(folder, decoy),
    )
    time.sleep(_FLUSH_SECONDS)  # what was still in a buffer is in a file by then
    running = [*search.find(folder, text), *search.find(folder, spoken)]

    def once_stopped() -> None:
        ended = [*search.find(folder, text), *search.find(folder, spoken)]
        files = sum(path.is_file() for path in folder.rglob("*"))
        stage.find(
            "3-zdr",
            f"the private text stands in none of the suite's {files} files, neither running nor ended",
            ok=able and files > 0 and not running and not ended,
        )
        keys = search.find(folder, secret)
        stage.find(
            "1.1-key", f"the customer's key stands in none of the {files} files either", ok=able and not keys
        )

    stage.after_stop(once_stopped)


def _queries(stage: Stage, trace_id: str) -> int:
    """How many transactions a call cost, those of the batches that it shared included."""
    files = stage.suite.folder / "traces"
    spans = tracing.settled(files, trace_id)
    shared = {link.trace_id for span in spans for link in span.links}
    every = [*spans, *(span for batch in shared for span in traces.read(files, batch))]
    return sum("db.system.name" in span.attributes for span in every)
