"""TermsService on the wire: the rulebook as it is loaded, for anyone to compare with the clauses."""

from typing import Any

import grpc

from perron.api.governance.v1 import terms_service_pb2 as pb
from perron.api.governance.v1 import terms_service_pb2_grpc
from perron.governance import convert
from perron.governance.model import Permission
from perron.governance.terms import Rule, Rulebook, Terms

_Context = grpc.aio.ServicerContext[Any, Any]


class TermsServicer(terms_service_pb2_grpc.TermsServiceServicer):
    """Serves TermsService."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    async def ListTerms(self, request: pb.ListTermsRequest, context: _Context) -> pb.ListTermsResponse:
        """Lists the versions that are loaded, newest first."""
        return pb.ListTermsResponse(terms=map(_terms, self._rulebook.terms))

    async def GetTerms(self, request: pb.GetTermsRequest, context: _Context) -> pb.GetTermsResponse:
        """Returns one version with its clauses and rules."""
        terms = self._rulebook.find(request.document, request.version)
        return pb.GetTermsResponse(
            terms=_terms(terms),
            clauses=[pb.Clause(clause=one.clause, text=one.text) for one in terms.clauses],
            rules=map(_rule, terms.rules),
        )

    async def ListCoverage(
        self, request: pb.ListCoverageRequest, context: _Context
    ) -> pb.ListCoverageResponse:
        """Lists what carries out and what holds each clause of the newest version."""
        terms = self._rulebook.find("", "")
        return pb.ListCoverageResponse(
            coverage=[
                pb.Coverage(
                    clause=clause.clause,
                    clause_text=clause.text,
                    rules=terms.names_under(clause.clause),
                    tests=clause.tests,
                )
                for clause in terms.clauses
            ]
        )


def _terms(terms: Terms) -> pb.Terms:
    message = pb.Terms(
        document=terms.document,
        version=terms.version,
        channels=[convert.CHANNELS[channel] for channel in terms.channels],
        rules_sha256=terms.rules_sha256,
    )
    message.effective_time.FromDatetime(terms.effective_time)
    return message


def _rule(rule: Rule) -> pb.Rule:
    return pb.Rule(
        rule=rule.name,
        terms_class=convert.TERMS_CLASSES[rule.terms_class],
        data_kind=convert.KINDS[rule.data_kind],
        permissions=map(_permission, rule.outcome.permissions),
        training_eligible=rule.outcome.training_eligible,
        licence_end=convert.LICENCE_ENDS[rule.outcome.licence_end],
        clauses=convert.clauses(rule.outcome.clauses),
    )


def _permission(permission: Permission) -> pb.RulePermission:
    return pb.RulePermission(
        purpose=convert.PURPOSES[permission.purpose],
        deadlines=[
            pb.RuleDeadline(kind=convert.DEADLINES[one.kind], days=one.days) for one in permission.deadlines
        ],
    )
