"""Who lives on the suite that is attacked: two tenants with members of every role, operators, services.

Everything is made over the wire, as a customer would, and found again by id. What they have is in `things`.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.agents.v1 import agent_service_pb2, configuration_pb2
from perron.api.common.v1 import access_pb2, roles_pb2
from perron.api.identity.v1 import api_key_pb2, organization_pb2, workspace_pb2
from perron.cli.suite import Suite
from tests.attacks import things
from tests.attacks.people import Person, Tenant
from tests.attacks.things import MODEL
from tests.attacks.wire import Wire

PASSPORT_SECONDS = 8.0
"""How long a passport is used here; it is good for 30 seconds."""

ALL_SCOPES = tuple(number for number in roles_pb2.Scope.values() if number)
_numbers = itertools.count()


class World:
    """A running suite with its inhabitants."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.wire = Wire(suite.endpoints)
        self.operator = Person(
            "operator", "operator", suite.operator_key, operator_roles=frozenset(range(1, 7))
        )
        self.services = {
            name: self._service(name)
            for name in ("admission", "quotas", "governance", "agents", "finetuning", "trainer", "gateway")
        }
        self.services["stranger"] = self._platform_key("stranger", service="stranger")  # nobody knows it
        self.documents = self._documents()
        self.operators = {
            name: self._platform_key(name, role=number)
            for name, number in roles_pb2.OperatorRole.items()
            if number
        }
        self.tenant = self.new_tenant("attacked", plan="scale-2")
        self.other = self.new_tenant("neighbour", plan="scale-2")
        self._passports: dict[str, tuple[float, str]] = {}
        for tenant in (self.tenant, self.other):
            self._inhabit(tenant)

    @property
    def callers(self) -> list[Person]:
        """Everybody who may knock, of every kind, role and scope; the neighbour is not among them."""
        return [
            *self.tenant.people.values(),
            *self.operators.values(),
            self.operator,
            *self.services.values(),
        ]

    def caller(self, access: access_pb2.Access, tenant: Tenant | None = None) -> Person:
        """Somebody whom the contract lets in, the customer first."""
        admin = (tenant or self.tenant).admin
        candidates = [admin, self.operator, self.services["gateway"], *self.services.values()]
        return next(person for person in candidates if person.may_call(access))

    def new_tenant(self, name: str, *, plan: str = "free") -> Tenant:
        """Creates an organization with its admin."""
        number = next(_numbers)
        request = organization_pb2.CreateOrganizationRequest(
            display_name=f"{name} {number}",
            admin_email=f"admin{number}@{name}.example",
            acceptances=self.documents,
            permitted_uses=[organization_pb2.PERMITTED_USE_INTERNAL_BUSINESS],
        )
        made = self.wire.ask("OrganizationService.CreateOrganization", request, self.operator.secret)
        organization = made.organization.organization_id
        if plan != "free":
            change = organization_pb2.ChangePlanRequest(organization_id=organization, plan=plan)
            self.wire.ask("OrganizationService.ChangePlan", change, self.operator.secret)
        admin = Person(
            f"{name} admin",
            "customer",
            made.secret,
            made.key.key_id,
            made.admin.member_id,
            frozenset(made.key.scopes),
            roles_pb2.ORGANIZATION_ROLE_ADMIN,
            roles_pb2.WORKSPACE_ROLE_ADMIN,
        )
        tenant = Tenant(name, organization, made.workspace.workspace_id, admin, {"admin": admin})
        tenant.ids, tenant.spare = things.Things(self, tenant), things.Things(self, tenant)
        return tenant

    def new_member(self, tenant: Tenant, organization_role: int, workspace_role: int) -> str:
        """Adds somebody to the tenant's workspace and returns the member's id."""
        number = next(_numbers)
        request = workspace_pb2.AddMemberRequest(
            workspace_id=tenant.workspace_id,
            member=workspace_pb2.NewMember(
                display_name=f"member {number}",
                email=f"member{number}@{tenant.name}.example",
                organization_role=organization_role,  # type: ignore[arg-type]  # a number of the enum
            ),
            workspace_role=workspace_role,  # type: ignore[arg-type]  # a number of the enum
        )
        added: str = self.wire.ask(
            "WorkspaceService.AddMember", request, tenant.admin.secret
        ).member.member_id
        return added

    def new_key(
        self, tenant: Tenant, scopes: tuple[int, ...] = ALL_SCOPES, *, owner: str = "", **more: Any
    ) -> Any:
        """Mints a key of the tenant and returns what CreateApiKey answers."""
        request = api_key_pb2.CreateApiKeyRequest(
            display_name=f"key {next(_numbers)}",
            workspace_id=tenant.workspace_id,
            owner_member_id=owner,
            scopes=scopes,  # type: ignore[arg-type]  # numbers of the enum
            **more,
        )
        return self.wire.ask("ApiKeyService.CreateApiKey", request, tenant.admin.secret)

    def passport(self, tenant: Tenant) -> str:
        """A passport of the tenant's admin, fresh enough to be accepted."""
        made, token = self._passports.get(tenant.organization_id, (0.0, ""))
        if time.monotonic() - made > PASSPORT_SECONDS:
            request = api_key_pb2.VerifyRequest(credential=tenant.admin.secret, want_passport=True)
            token = self.wire.ask("ApiKeyService.Verify", request, self.services["admission"].secret).passport
            self._passports[tenant.organization_id] = (time.monotonic(), token)
        return token

    def admit(self, tenant: Tenant, **more: Any) -> Any:
        """Admits one inference of the tenant."""
        wanted = {"model": MODEL, "estimated_tokens": 10, "channel": roles_pb2.CHANNEL_API} | more
        request = admission.AdmitRequest(credential=tenant.admin.secret, **wanted)
        return self.wire.ask("AdmissionService.Admit", request, self.services["gateway"].secret)

    def complete(self, admission_id: str, content: bytes = b"text") -> Any:
        """Completes an admission with content."""
        request = admission.CompleteRequest(admission_id=admission_id, tokens=5)
        request.content.input = content
        request.content.output = content
        return self.wire.ask("AdmissionService.Complete", request, self.services["gateway"].secret)

    def is_undisturbed(self) -> bool:
        """Whether a well-behaved client is served as if nothing had happened."""
        completed = self.complete(self.admit(self.other).admission_id)
        return bool(completed.recorded) and set(self.suite.pids) == set(self.suite.endpoints)

    def _service(self, name: str) -> Person:
        path = self.suite.folder / "keys" / f"{name}.key"
        return Person(f"service {name}", "service", path.read_text("utf-8").strip(), service=name)

    def _platform_key(self, name: str, *, service: str = "", role: int = 0) -> Person:
        request = api_key_pb2.CreatePlatformKeyRequest(display_name=name)
        if service:
            request.service.name = service
        else:
            request.operator.roles.append(role)  # type: ignore[arg-type]  # a number of the enum
        made = self.wire.ask("ApiKeyService.CreatePlatformKey", request, self.operator.secret)
        kind = "service" if service else "operator"
        roles = frozenset({role} - {0})
        return Person(
            f"{kind} {name}", kind, made.secret, made.key.key_id, operator_roles=roles, service=service
        )

    def _documents(self) -> list[organization_pb2.DocumentAcceptance]:
        listed = self.wire.ask("OrganizationService.ListDocuments", organization_pb2.ListDocumentsRequest())
        found = {document.name: document for document in self._newest(listed.documents)}
        return [
            organization_pb2.DocumentAcceptance(
                document=document.name, version=document.version, text_digest=document.text_digest
            )
            for document in found.values()
        ]

    def _newest(self, documents: Any) -> Iterator[Any]:
        for name in {document.name for document in documents}:
            request = organization_pb2.GetDocumentRequest(name=name)
            yield self.wire.ask("OrganizationService.GetDocument", request).document

    def _inhabit(self, tenant: Tenant) -> None:
        """Gives a tenant members of every role, and keys of every kind."""
        organization_roles, workspace_roles = roles_pb2.OrganizationRole, roles_pb2.WorkspaceRole
        for name, organization_role, workspace_role in (
            ("auditor", organization_roles.ORGANIZATION_ROLE_AUDITOR, workspace_roles.WORKSPACE_ROLE_MEMBER),
            (
                "workspace admin",
                organization_roles.ORGANIZATION_ROLE_MEMBER,
                workspace_roles.WORKSPACE_ROLE_ADMIN,
            ),
            ("member", organization_roles.ORGANIZATION_ROLE_MEMBER, workspace_roles.WORKSPACE_ROLE_MEMBER),
        ):
            member = self.new_member(tenant, organization_role, workspace_role)
            made = self.new_key(tenant, owner=member)
            scopes = frozenset(ALL_SCOPES)
            tenant.people[name] = Person(
                name,
                "customer",
                made.secret,
                made.key.key_id,
                member,
                scopes,
                organization_role,
                workspace_role,
            )
        for scope in ALL_SCOPES:
            made = self.new_key(tenant, (scope,))
            name = f"admin with {roles_pb2.Scope.Name(scope)}"  # type: ignore[arg-type]  # a number of the enum
            tenant.people[name] = Person(
                name,
                "customer",
                made.secret,
                made.key.key_id,
                tenant.admin.member_id,
                frozenset({scope}),
                organization_roles.ORGANIZATION_ROLE_ADMIN,
                workspace_roles.WORKSPACE_ROLE_ADMIN,
            )

    def refill(self, tenant: Tenant) -> None:
        """Gives a tenant new things that a destructive call may use up."""
        tenant.spare.end_jobs()
        tenant.spare = things.Things(self, tenant)

    def new_agent(self, tenant: Tenant, owner: Person | None = None, **more: Any) -> str:
        """Makes an agent of the tenant and returns its id."""
        request = agent_service_pb2.CreateAgentRequest(
            display_name=f"agent {next(_numbers)}",
            name_attested=True,
            configuration=configuration_pb2.AgentConfiguration(model=MODEL, **more),
        )
        made = self.wire.ask("AgentService.CreateAgent", request, (owner or tenant.admin).secret)
        return str(made.agent.agent_id)
