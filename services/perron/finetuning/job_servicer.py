"""JobService on the wire. A Watch reads the events that are stored: nothing of it lives in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from perron.api.finetuning.v1 import job_service_pb2 as pb
from perron.api.finetuning.v1 import job_service_pb2_grpc
from perron.chassis import events as outbox
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import current_call
from perron.chassis.paging import Pages
from perron.finetuning import convert, errors
from perron.finetuning.jobs import Jobs
from perron.finetuning.model import Job, JobEvent
from perron.finetuning.models import model_name
from perron.finetuning.moves import has_ended
from perron.finetuning.peers import Agents, Governance
from perron.finetuning.store import Store

KEEPALIVE_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.25
_EVENTS_PER_PAGE: Final = 500
_A_MODEL: Final = f"mdl_{'0' * 26}"
"""Stands in for a model that does not exist yet: the names of all models of a job are of one length."""

_Context = grpc.aio.ServicerContext[Any, Any]


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Serves JobService."""

    def __init__(
        self,
        database: Database,
        jobs: Jobs,
        agents: Agents,
        governance: Governance,
        pages: Pages,
        *,
        poll_seconds: float = POLL_SECONDS,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._agents = agents
        self._governance = governance
        self._pages = pages
        self._poll_seconds = poll_seconds
        self._keepalive_seconds = keepalive_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends every Watch, as the server is about to."""
        self._stopping.set()
        outbox.wake()

    async def CreateJob(self, request: pb.CreateJobRequest, context: _Context) -> pb.CreateJobResponse:
        """Creates a job and has it validated; the answer says how it was created."""
        call, command = current_call(), convert.create_command(request)
        foreseen = await self._database.read(lambda tx: self._jobs.foresee(Store(tx), call, command))
        if foreseen.job_id:  # an earlier call made it
            return pb.CreateJobResponse(job=convert.job(foreseen))
        if command.agent is not None:
            name = model_name(foreseen.base_model, foreseen.workspace_id, foreseen.suffix, _A_MODEL)
            await self._agents.validate(call.caller.passport_token, command.agent, name)
        if command.dry_run:
            return pb.CreateJobResponse(job=convert.job(foreseen))
        decision_id = await self._governance.decision_on_models(call)
        made = await self._database.write(lambda tx: self._jobs.create(Store(tx), call, command, decision_id))
        with contextlib.suppress(PerronError):  # the job is created; whoever sweeps validates it
            await self._database.write(lambda tx: self._jobs.validate_at_once(Store(tx), made))
        return pb.CreateJobResponse(job=convert.job(made))

    async def GetJob(self, request: pb.GetJobRequest, context: _Context) -> pb.GetJobResponse:
        """Returns one job."""
        workspace_id = current_call().caller.workspace_id
        found = await self._database.read(lambda tx: Store(tx).job(workspace_id, request.job_id))
        return pb.GetJobResponse(job=convert.job(found))

    async def ListJobs(self, request: pb.ListJobsRequest, context: _Context) -> pb.ListJobsResponse:
        """Lists jobs, newest first."""
        workspace_id = current_call().caller.workspace_id
        size = self._pages.size(request.page_size)
        binding = {"caller_scope": workspace_id, "filter_text": "jobs"}
        cursor = self._pages.cursor(request.page_token, **binding)
        before = str(cursor[0]) if cursor else ""
        found = await self._database.read(lambda tx: Store(tx).jobs(workspace_id, before, size + 1))
        page = found[:size]
        token = self._pages.token((page[-1].job_id,), **binding) if len(found) > size else ""
        return pb.ListJobsResponse(jobs=map(convert.job, page), next_page_token=token)

    async def StartJob(self, request: pb.StartJobRequest, context: _Context) -> pb.StartJobResponse:
        """Starts a job."""
        call = current_call()
        found = await self._database.write(lambda tx: self._jobs.start(Store(tx), call, request.job_id))
        return pb.StartJobResponse(job=convert.job(found))

    async def CancelJob(self, request: pb.CancelJobRequest, context: _Context) -> pb.CancelJobResponse:
        """Cancels a job."""
        call = current_call()
        found = await self._database.write(lambda tx: self._jobs.cancel(Store(tx), call, request.job_id))
        return pb.CancelJobResponse(job=convert.job(found))

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: _Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """Streams events after a number, until the one that ended the job."""
        workspace_id, number = current_call().caller.workspace_id, request.after_number
        loop = asyncio.get_running_loop()
        spoken = loop.time()
        with outbox.new_ones() as flag:
            while not self._stopping.is_set():
                flag.clear()  # before the look, so that what commits during it wakes the next
                job, found = await self._look(workspace_id, request.job_id, number)
                if found:
                    number = found[-1].number
                    yield pb.WatchJobResponse(events=[convert.job_event(one, job) for one in found])
                    spoken = loop.time()
                elif loop.time() - spoken >= self._keepalive_seconds:
                    yield pb.WatchJobResponse()
                    spoken = loop.time()
                if has_ended(job) and number >= job.events:
                    return
                if len(found) < _EVENTS_PER_PAGE and not self._stopping.is_set():
                    await self._sleep(flag)

    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, context: _Context
    ) -> pb.ListCheckpointsResponse:
        """Lists the checkpoints of a job, latest step first."""
        workspace_id = current_call().caller.workspace_id
        size = self._pages.size(request.page_size)
        binding = {"caller_scope": workspace_id, "filter_text": f"checkpoints of {request.job_id}"}
        cursor = self._pages.cursor(request.page_token, **binding)
        before = int(cursor[0]) if cursor else None

        def read(tx: Transaction) -> Any:
            store = Store(tx)
            store.job(workspace_id, request.job_id)
            return store.checkpoints(request.job_id, before, size + 1)

        found = await self._database.read(read)
        page = found[:size]
        token = self._pages.token((page[-1].step,), **binding) if len(found) > size else ""
        return pb.ListCheckpointsResponse(checkpoints=map(convert.checkpoint, page), next_page_token=token)

    async def _look(self, workspace_id: str, job_id: str, number: int) -> tuple[Job, list[JobEvent]]:
        def look(tx: Transaction) -> tuple[Job, list[JobEvent]]:
            store = Store(tx)
            job = store.job(workspace_id, job_id)
            if store.is_buried(job.organization_id, workspace_id):
                raise errors.not_found()
            return job, store.events(job_id, number, _EVENTS_PER_PAGE)

        return await self._database.read(look)

    async def _sleep(self, flag: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._poll_seconds):
                await flag.wait()
        except TimeoutError:
            pass
