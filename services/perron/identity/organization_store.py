"""Organizations, their acceptances and subscriptions, as rows."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update

from perron.chassis.mutations import Mutations
from perron.identity import errors
from perron.identity.model import Acceptance, Organization, OrganizationState, Subscription, TermsClass
from perron.identity.tables import acceptances, organizations, subscriptions


class OrganizationStore(Mutations):
    """The rows of organizations."""

    def add_organization(self, organization: Organization) -> None:
        """Writes a new organization; its acceptances come by `add_acceptances`."""
        self.tx.execute(
            insert(organizations),
            {
                "organization_id": organization.organization_id,
                "display_name": organization.display_name,
                "state": str(organization.state),
                "plan": organization.plan,
                "subscription_id": "",
                "permitted_uses": " ".join(sorted(organization.permitted_uses)),
                "expected_monthly_requests": organization.expected_monthly_requests,
                "accepted": "{}",
                "create_time": organization.create_us,
                "version": organization.version,
            },
        )

    def organization(self, organization_id: str, *, lock: bool = False) -> Organization:
        """Reads an organization; with `lock`, no other transaction changes it or its members meanwhile."""
        query = select(organizations).where(organizations.c.organization_id == organization_id)
        row = self.tx.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise errors.not_found("organization")
        return self._organizations([row])[0]

    def organizations(self, after: str, limit: int) -> list[Organization]:
        """Reads organizations in the order of their ids."""
        rows = self.tx.execute(
            select(organizations)
            .where(organizations.c.organization_id > after)
            .order_by(organizations.c.organization_id)
            .limit(limit)
        ).all()
        return self._organizations(rows)

    def add_acceptances(
        self, organization_id: str, accepted: dict[str, str], new: Sequence[Acceptance]
    ) -> None:
        """Writes acceptances not yet there, and what stands accepted after them."""
        known = {
            (row.document, row.version)
            for row in self.tx.execute(
                select(acceptances).where(acceptances.c.organization_id == organization_id)
            )
        }
        rows = {
            (acceptance.document, acceptance.version): {
                "organization_id": organization_id,
                "document": acceptance.document,
                "version": acceptance.version,
                "text_digest": acceptance.text_digest,
                "member_id": acceptance.member_id,
                "accept_time": acceptance.accept_us,
            }
            for acceptance in new
            if (acceptance.document, acceptance.version) not in known
        }
        if rows:
            self.tx.execute(insert(acceptances), list(rows.values()))
            self._change_organization(organization_id, accepted=json.dumps(accepted, sort_keys=True))

    def change_plan(self, organization_id: str, plan: str, subscription_id: str) -> None:
        """Puts an organization on a plan, under a subscription or none."""
        self._change_organization(organization_id, plan=plan, subscription_id=subscription_id)

    def start_subscription(self, subscription: Subscription) -> None:
        """Writes a subscription that begins to run."""
        self.tx.execute(
            insert(subscriptions),
            {
                "subscription_id": subscription.subscription_id,
                "organization_id": subscription.organization_id,
                "terms_class": str(subscription.terms_class),
                "start_time": subscription.start_us,
                "end_time": None,
            },
        )

    def end_subscription(self, subscription_id: str, end_us: int) -> None:
        """Ends a running subscription."""
        self.tx.execute(
            update(subscriptions)
            .where(subscriptions.c.subscription_id == subscription_id, subscriptions.c.end_time.is_(None))
            .values(end_time=end_us)
        )

    def _change_organization(self, organization_id: str, **values: str) -> None:
        self.tx.execute(
            update(organizations)
            .where(organizations.c.organization_id == organization_id)
            .values(version=organizations.c.version + 1, **values)
        )

    def _organizations(self, rows: Sequence[Row[Any]]) -> list[Organization]:
        ids = [row.organization_id for row in rows]
        running = [row.subscription_id for row in rows if row.subscription_id]
        subscribed = {
            row.subscription_id: _subscription(row)
            for row in self.tx.execute(
                select(subscriptions).where(subscriptions.c.subscription_id.in_(running))
            )
        }
        accepted: dict[str, list[Acceptance]] = {}
        query = select(acceptances).where(acceptances.c.organization_id.in_(ids))
        for row in self.tx.execute(query.order_by(acceptances.c.accept_time, acceptances.c.document)):
            accepted.setdefault(row.organization_id, []).append(_acceptance(row))
        return [
            _organization(row, subscribed.get(row.subscription_id), accepted.get(row.organization_id, ()))
            for row in rows
        ]


def _organization(
    row: Row[Any], subscription: Subscription | None, given: Sequence[Acceptance]
) -> Organization:
    accepted: dict[str, str] = json.loads(row.accepted)
    return Organization(
        organization_id=row.organization_id,
        display_name=row.display_name,
        state=OrganizationState(row.state),
        plan=row.plan,
        subscription=subscription,
        permitted_uses=frozenset(row.permitted_uses.split()),
        expected_monthly_requests=row.expected_monthly_requests,
        accepted=accepted,
        acceptances=tuple(each for each in given if accepted.get(each.document) == each.version),
        create_us=row.create_time,
        version=row.version,
    )


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        row.subscription_id, row.organization_id, TermsClass(row.terms_class), row.start_time, row.end_time
    )


def _acceptance(row: Row[Any]) -> Acceptance:
    return Acceptance(row.document, row.version, row.text_digest, row.member_id, row.accept_time)
