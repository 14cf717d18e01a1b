import pytest

from perron.chassis.database import Database
from perron.chassis.testing import BOTH
from perron.finetuning.base_models import BaseModels
from perron.finetuning.jobs import Jobs
from perron.finetuning.model import FailureReason, JobState
from tests.unit.finetuning.platform import WORKSPACE, Platform, wanted


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_a_job_whose_base_model_was_taken_from_the_list_fails_validation(database: Database) -> None:
    platform = Platform(database)
    created = await platform.create_of(wanted(await platform.file()))
    without = Jobs(BaseModels([]), platform.new_id, platform.job_agents)

    await platform.write(without.validate)

    job = await platform.read(lambda store: store.job(WORKSPACE, created.job_id))
    assert (job.state, job.failure_reason) == (JobState.FAILED_VALIDATION, FailureReason.BASE_MODEL_MISSING)
