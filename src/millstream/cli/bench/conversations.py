"""Starts the conversation that a plan asks for."""

from typing import assert_never

from millstream.cli.bench.conversation import Conversation, start_job_conversation
from millstream.cli.bench.conversation_plans import (
    ConsumeMessages,
    ConversationPlan,
    CreateJobs,
    CreateJobsInBulk,
    DrainJobs,
    JobLifecycle,
    PublishMessages,
)
from millstream.cli.bench.http_request import RequestBuilder
from millstream.cli.bench.log_conversation import Consuming, Publishing
from millstream.cli.bench.log_plans import PublishToLog, ReadLog
from millstream.cli.bench.topic_conversation import start_topic_conversation


def start_conversation(plan: ConversationPlan, requests: RequestBuilder) -> Conversation:
    """A fresh conversation for one connection."""
    match plan:
        case CreateJobs() | CreateJobsInBulk() | JobLifecycle() | DrainJobs():
            return start_job_conversation(plan, requests)
        case PublishMessages() | ConsumeMessages():
            return start_topic_conversation(plan, requests)
        case PublishToLog():
            return Publishing(plan, requests)
        case ReadLog():
            return Consuming(plan, requests)
        case _:
            assert_never(plan)
