"""OrganizationService on the wire."""

from collections.abc import Sequence
from typing import Any

import grpc

from perron.api.identity.v1 import organization_pb2 as pb
from perron.api.identity.v1 import organization_pb2_grpc
from perron.chassis.batcher import Batcher
from perron.chassis.clock import Clock
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import current_call
from perron.chassis.interceptors.validation import check
from perron.chassis.paging import Pages
from perron.identity import organization_convert as convert
from perron.identity.documents import Documents
from perron.identity.hot_store import HotStore
from perron.identity.model import Organization, Standing
from perron.identity.organizations import Organizations
from perron.identity.plans import Plans
from perron.identity.store import Store

Context = grpc.aio.ServicerContext[Any, Any]


class OrganizationServicer(organization_pb2_grpc.OrganizationServiceServicer):
    """Serves organizations, plans and documents."""

    def __init__(
        self,
        database: Database,
        organizations: Organizations,
        plans: Plans,
        documents: Documents,
        pages: Pages,
        clock: Clock,
    ) -> None:
        self._database = database
        self._organizations = organizations
        self._plans = plans
        self._documents = documents
        self._pages = pages
        self._clock = clock
        self._standings: Batcher[pb.GetStandingItem, Standing] = Batcher(
            self._read_standings, name="standing", trace_parent=lambda item: item.trace_parent
        )

    async def CreateOrganization(
        self, request: pb.CreateOrganizationRequest, context: Context
    ) -> pb.CreateOrganizationResponse:
        """Creates an organization with its first admin, workspace and key."""
        command, call = convert.create_organization_command(request), current_call()
        made = await self._database.write(lambda tx: self._organizations.create(Store(tx), call, command))
        return convert.founded(made, self._plans.find(made.organization.plan), self._clock.now_us())

    async def GetOrganization(
        self, request: pb.GetOrganizationRequest, context: Context
    ) -> pb.GetOrganizationResponse:
        """Returns an organization."""
        caller = current_call().caller
        found = await self._database.read(
            lambda tx: self._organizations.get(Store(tx), caller, request.organization_id)
        )
        return pb.GetOrganizationResponse(organization=self._written(found))

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, context: Context
    ) -> pb.ListOrganizationsResponse:
        """Returns a page of all organizations."""
        scope = current_call().caller.key_id
        size = self._pages.size(request.page_size)
        cursor = self._pages.cursor(request.page_token, caller_scope=scope, filter_text="organizations")
        after = str(cursor[0]) if cursor else ""
        found = await self._database.read(lambda tx: self._organizations.list(Store(tx), after, size + 1))
        token = ""
        if len(found) > size:
            token = self._pages.token(
                [found[size - 1].organization_id], caller_scope=scope, filter_text="organizations"
            )
        return pb.ListOrganizationsResponse(
            organizations=[self._written(each) for each in found[:size]], next_page_token=token
        )

    async def AcceptTerms(self, request: pb.AcceptTermsRequest, context: Context) -> pb.AcceptTermsResponse:
        """Records acceptances of the caller's organization."""
        acceptances, call = convert.given_acceptances(request.acceptances), current_call()
        changed = await self._database.write(
            lambda tx: self._organizations.accept_terms(Store(tx), call, request.organization_id, acceptances)
        )
        return pb.AcceptTermsResponse(organization=self._written(changed))

    async def ListPlans(self, request: pb.ListPlansRequest, context: Context) -> pb.ListPlansResponse:
        """Returns the plans of this installation."""
        return pb.ListPlansResponse(plans=[convert.plan(plan) for plan in self._plans.all])

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        """Returns the documents of this installation without their texts."""
        return pb.ListDocumentsResponse(
            documents=[convert.document(document, with_text=False) for document in self._documents.all]
        )

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:
        """Returns one version of a document with its text."""
        found = self._documents.get(request.name, request.version, self._clock.now_us())
        return pb.GetDocumentResponse(document=convert.document(found, with_text=True))

    async def ChangePlan(self, request: pb.ChangePlanRequest, context: Context) -> pb.ChangePlanResponse:
        """Puts an organization on another plan."""
        call = current_call()
        changed = await self._database.write(
            lambda tx: self._organizations.change_plan(
                Store(tx), call, request.organization_id, request.plan, request.etag
            )
        )
        return pb.ChangePlanResponse(organization=self._written(changed))

    async def BatchGetStanding(
        self, request: pb.BatchGetStandingRequest, context: Context
    ) -> pb.BatchGetStandingResponse:
        """Says how the organizations of many workspaces stand."""
        faults = [check(item) for item in request.items]
        asked = [item for item, fault in zip(request.items, faults, strict=True) if fault is None]
        answers = iter(await self._standings.submit_many(asked))
        return pb.BatchGetStandingResponse(
            results=[convert.standing_result(next(answers) if fault is None else fault) for fault in faults]
        )

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._standings.aclose()

    async def _read_standings(self, items: Sequence[pb.GetStandingItem]) -> Sequence[Standing | PerronError]:
        workspace_ids = [item.workspace_id for item in items]
        return await self._database.read(
            lambda tx: self._organizations.standings(HotStore(tx), workspace_ids)
        )

    def _written(self, found: Organization) -> pb.Organization:
        return convert.organization(found, self._plans.find(found.plan))
