"""Runs as ATIF documents (Agent Trajectory Interchange Format, v1.0 to v1.8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from trajtree.chat import arguments_text, text_of
from trajtree.errors import DataError
from trajtree.formats.read.aside import TEXT_PART, Known, fields_aside
from trajtree.formats.read.fields import (
    Record,
    at,
    leading,
    objects,
    other_scores,
    outcome_at,
    score_at,
    system_beside,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.made import made_of
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, Outcome, ToolCall

_REWARDS = "trial.verifier_result.rewards"
_SCORES = (
    *(_REWARDS, "trial_reward"),
    *("extra.score", "extra.reward", "final_metrics.extra.score", "final_metrics.extra.reward"),
)
_FIELDS = frozenset(
    (
        *("step_id", "timestamp", "source", "model_name", "reasoning_effort", "message", "reasoning_content"),
        *("tool_calls", "observation", "metrics", "is_copied_context", "llm_call_count"),
    )
)
_RESULT = Known(frozenset(("source_call_id", "content", "subagent_trajectory_ref")), {"content": TEXT_PART})
_WITHIN = {
    "message": TEXT_PART,
    "tool_calls": Known(frozenset(("tool_call_id", "function_name", "arguments"))),
    "observation": Known(frozenset(("results",)), {"results": _RESULT}),
}
_INSTRUCTIONS = ("agent.extra.system_prompt", "agent.extra.instructions", "agent.system_prompt", "extra.system_prompt")
_CONTINUATION = re.compile(r"-cont-\d+$")
"""Suffix of the session_id that Harbor gives to a document continuing another one."""

TASKS = ("extra.task", "extra.task_id", "extra.instance_id", "trial.task_name")

_TIMEOUT = "AgentTimeoutError"
_OF_THE_AGENT = frozenset(
    (
        *("NonZeroAgentExitCodeError", "ContextWindowExceededError", "ContextLengthExceededError"),
        *("OutputTokenExceededError", "OutputLengthExceededError", "AgentSafetyRefusalError"),
        "ContentPolicyViolationError",
    )
)
"""Exceptions of a trial that are the agent's doing."""

_OF_OTHERS = frozenset(
    (
        *("EnvironmentStartTimeoutError", "SandboxBuildFailedError", "AgentSetupTimeoutError", "HealthcheckError"),
        *("SandboxLikelyOutOfMemoryError", "MemoryLimitExceededError", "SSHAccessError", "GKEExecStreamClosedError"),
        *("GKEPodNotFoundError", "RuntimeRequestError", "AddTestsDirError", "DownloadVerifierDirError", "ApiError"),
        *("ApiRateLimitError", "ApiInternalServerError", "ApiOverloadedError", "ApiConnectionClosedError"),
        *("ApiResponseStalledError", "UnknownApiError", "NetworkConnectionError", "ApiConnectionError"),
        *("ApiUsageLimitError", "RateLimitError", "InternalServerError", "ServiceUnavailableError"),
        *("APIConnectionError", "APIError", "Timeout", "UnsupportedModelParametersError", "BadRequestError"),
        *("UnprocessableEntityError", "UnsupportedParamsError", "APIResponseValidationError", "BudgetExceededError"),
        *("VerifierTimeoutError", "RewardFileNotFoundError", "RewardFileEmptyError", "VerifierOutputParseError"),
        *("AgentAuthenticationError", "ModelNotFoundError", "ApiProviderResourceNotFoundError"),
        *("AuthenticationError", "PermissionDeniedError", "NotFoundError", "ServiceOperationsUnsupportedError"),
        *("VercelScopeError", "DspyImportError", "MissingExtraError", "RegradeError", "CancelledError"),
    )
)
"""Exceptions of a trial that are the fault of its environment, engine, verifier or settings. Source: harbor 0.26."""


def recognises(record: Record) -> bool:
    """Whether a record says that it is ATIF, in any version."""
    return str(record.get("schema_version")).startswith("ATIF")


def goes_on_in(record: Record) -> str | None:
    """The file in which a document's run continues, as named in the document."""
    return text_at(record, "continued_trajectory_ref")


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one document.

    The agent's steps are its replies, followed by their observations as messages; a step with only an observation, or
    one after a call that says only what it observes, is not a reply. A result that names no call answers the first open
    call of the last reply. Leading steps that were copied from another run, or made without a model, are context. Of a
    continuation, copied replies are left out (the metadata counts them as `copied_replies`), and so are messages that
    an earlier document has.

    Args:
        record: the document; with what `harbor.runs` adds to it.
        score: dotted path of the score; without one, the usual places are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: a field is wrong; something cannot be kept (images and sound, a result that only a subagent's run
            holds); the document is not a whole run of the agent's; or the trial failed through no fault of the agent's.
    """
    version = record.get("schema_version")
    if not isinstance(version, str) or not version.startswith("ATIF-v1."):
        raise DataError(f"schema_version: {str(version)[:80]!r}; ATIF-v1.0 to ATIF-v1.8 are read")
    continuations = objects(record.get("continuations") or [], "continuations")
    _check_whole(record, continuations)
    outcome, exception = _ended(record)
    messages: list[Message] = []
    context: list[bool] = []
    replies: list[Record] = []
    known: set[str] = set()
    unanswered: list[str] = []
    documents = [("", record), *((f"continuations.{i}.", later) for i, later in enumerate(continuations))]
    parts = [(f"{where}steps", objects(document.get("steps"), f"{where}steps")) for where, document in documents]
    copied_replies = 0
    for name, steps in parts:
        earlier = {m.content for m in messages if m.role != "assistant"}
        for index, step in enumerate(steps):
            where = f"{name}.{index}"
            said = _said(step, where)
            if messages and name != "steps" and step.get("is_copied_context") is True:
                copied_replies += said.role == "assistant"
                if said.role == "assistant" or said.content in earlier:
                    continue
            results = _results(step, where)
            # A step may consist only of an observation, after a call or in a system event.
            if not _says_only_results(said, results, unanswered, where):
                messages.append(said)
                if said.role == "assistant":
                    replies.append(step)
                    context.append(step.get("is_copied_context") is True or step.get("llm_call_count") == 0)
                    unanswered = [call.id for call in said.tool_calls]
                    known.update(unanswered)
            messages += _heard(results, where, said.tool_calls, unanswered if said.role == "assistant" else [], known)
    messages[:0] = system_beside(record, messages, _INSTRUCTIONS)
    taken = score_at(record, score, _SCORES)
    models = (text_at(step, "model_name") for _, steps in parts for step in steps if step.get("source") == "agent")
    metadata: dict[str, str | int | float | bool] = {**fields_aside(parts, _FIELDS, within=_WITHIN)}
    if copied_replies:
        metadata["copied_replies"] = copied_replies
    policy = text_at(record, "agent.model_name") or next(models, None) or text_at(record, "agent.name")
    return Imported(
        messages=tuple(messages),
        context_turns=leading(context, "was copied or made without a model"),
        score=taken,
        task=task_at(record, task, TASKS),
        policy=policy,
        tools=tools_at(record, "agent.tool_definitions"),
        outcome=outcome,
        metadata={**metadata, **exception, **_measured(documents[-1][1], parts)},
        other_scores=other_scores(record, taken[0], _SCORES),
        made=made_of(replies, policy),
    )


def _says_only_results(said: Message, results: Sequence[Record], unanswered: Sequence[str], where: str) -> bool:
    """Whether a step says nothing beyond its observation: some writers repeat a call's result as a message."""
    if said.tool_calls or said.reasoning or not results:
        return False
    if said.role != "assistant" or not unanswered or len(results) > 1:
        return not said.content
    return said.content in ("", text_of(results[0].get("content"), f"{where}.observation.results.0.content"))


def _check_whole(record: Record, continuations: Sequence[Record]) -> None:
    """Raise DataError if a document, with its continuations, is not a whole run of the agent's."""
    if record.get("subagent_trajectories"):
        raise DataError("subagent_trajectories: the subagents' runs cannot be separated from the agent's")
    if goes_on_in(continuations[-1] if continuations else record):
        raise DataError("continued_trajectory_ref: the run continues in another document, which is missing")
    if at(record, "agent.extra.summarization_index") is not None:
        raise DataError("agent.extra.summarization_index: a helper call that summarises, not a run of the agent's")
    session = text_at(record, "session_id") or ""
    if _CONTINUATION.search(session) or at(record, "agent.extra.continuation_index") is not None:
        raise DataError("session_id: this is the later part of a run that began in another document")


def _ended(record: Record) -> tuple[Outcome, dict[str, str]]:
    """How the run ended, and the exception that ended it.

    Raises:
        DataError: it ended through no fault of the agent's.
    """
    kind = text_at(record, "trial.exception_info.exception_type")
    if kind is None:
        return outcome_at(record.get("extra")), {}
    if kind in _OF_OTHERS or (kind not in (_TIMEOUT, *_OF_THE_AGENT) and at(record, _REWARDS) is None):
        raise DataError(f"trial.exception_info: {kind[:80]} says nothing about the agent, so the run has no score")
    return (Outcome.TRUNCATED if kind == _TIMEOUT else Outcome.AGENT_ERROR), {"exception": kind}


def _measured(last: Record, parts: Sequence[tuple[str, Sequence[Record]]]) -> dict[str, str | int | float]:
    """Start and end of the run, its cost in US dollars and its tokens, where they are recorded."""
    times = [time for _, steps in parts for step in steps if (time := text_at(step, "timestamp"))]
    found: dict[str, Any] = {"started": times[0], "ended": times[-1]} if times else {}
    for name in ("total_cost_usd", "total_prompt_tokens", "total_completion_tokens"):
        value = at(last, f"final_metrics.{name}")
        if type(value) in (int, float):
            found[name.removeprefix("total_")] = value
    return found


def _said(step: Record, where: str) -> Message:
    """The step's own message."""
    source, content = step.get("source"), text_of(step.get("message"), f"{where}.message")
    if source == "agent":
        reasoning = step.get("reasoning_content") or None
        if reasoning is not None and not isinstance(reasoning, str):
            raise DataError(f"{where}.reasoning_content: must be text, got {type(reasoning).__name__}")
        return Message("assistant", content, reasoning, _calls(step, where))
    if step.get("tool_calls") or step.get("reasoning_content"):
        raise DataError(f"{where}: only an agent's step has tool calls and reasoning, source is {str(source)[:80]!r}")
    if source == "user":
        return Message("user", content)
    if source == "system":
        return Message("system", content)
    raise DataError(f"{where}.source: {str(source)[:80]!r} is not one of system, user, agent")


def _calls(step: Record, where: str) -> tuple[ToolCall, ...]:
    made = []
    for index, call in enumerate(objects(step.get("tool_calls") or [], f"{where}.tool_calls")):
        here = f"{where}.tool_calls.{index}"
        name, id_ = call.get("function_name"), call.get("tool_call_id")
        if not isinstance(name, str) or not isinstance(id_, str):
            raise DataError(f"{here}: a call needs a tool_call_id and a function_name")
        made.append(ToolCall(id_, name, arguments_text(call.get("arguments", {}), f"{here}.arguments")))
    return tuple(made)


def _results(step: Record, where: str) -> Sequence[Record]:
    if step.get("observation") is None:
        return ()
    return objects(at(step, "observation.results"), f"{where}.observation.results")


def _heard(
    results: Sequence[Record], where: str, calls: Sequence[ToolCall], unanswered: list[str], known: set[str]
) -> list[Message]:
    """The results of an observation: a tool's where they belong to a call, else a user's.

    A result that names no call answers the first open one; or, if it is the only one and in the step of the calls, all
    of them, as terminus-2 writes what its terminal shows after several commands. It is then a tool's message without an
    id.

    Args:
        results: the results.
        where: the step, for errors.
        calls: the step's own calls.
        unanswered: unanswered calls of the last reply, in order; those answered here are removed. Empty where the step
            is not the agent's.
        known: all calls so far.
    """
    named = {call for result in results if isinstance(call := result.get("source_call_id"), str)}
    of_all = bool(calls) and len(results) == 1 and not named and len(unanswered) > 1
    heard = []
    for index, result in enumerate(results):
        here = f"{where}.observation.results.{index}"
        call = result.get("source_call_id")
        if result.get("subagent_trajectory_ref") and result.get("content") is None:
            if call is None and not unanswered:
                continue  # a helper call of the program's, such as a summary
            raise DataError(f"{here}.subagent_trajectory_ref: the call's result is recorded only in a subagent's run")
        content = text_of(result.get("content"), f"{here}.content")
        if of_all:
            unanswered.clear()
            return [Message("tool", content)]
        if call is None:
            call = next((id_ for id_ in unanswered if id_ not in named), None)
        elif not isinstance(call, str) or call not in known:
            raise DataError(f"{here}.source_call_id: {str(call)[:80]!r} is not a call of the agent's")
        if call in unanswered:
            unanswered.remove(call)
        heard.append(Message("user", content) if call is None else Message("tool", content, tool_call_id=call))
    return heard


__all__ = ["TASKS", "goes_on_in", "read", "recognises"]
