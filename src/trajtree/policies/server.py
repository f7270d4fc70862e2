"""A model on servers that speak OpenAI's API (vLLM, SGLang, llama.cpp, hosted ones), and when a call is retried.

Two kinds of fault, and each is retried in one place. Transport (429, 5xx, broken connections, Retry-After) is retried
by the openai package; what outlasts that stays. An answer that arrives but is no reply ends the episode, which may be
played again.

Requests come in an order that suits a server's cache of prefixes: all conversations of a task go to the same server,
the first of them opens alone, and the others follow once their common opening has been read.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec
import openai

from trajtree.chat import message_to_dict
from trajtree.errors import PolicyError
from trajtree.policies import connections, interruptible
from trajtree.policies.answers import BadAnswer, Completion, decode, read, refused
from trajtree.policies.base import Reply, turn_seed
from trajtree.policies.engine_tokens import EngineTokens, spelt_reply
from trajtree.policies.server_name import ServerName, key_for
from trajtree.policies.server_probe import Server, look, say
from trajtree.policies.spending import Spending
from trajtree.trajectory import Cause, Message, Sampling, Tokens

RETRIES = 8
"""How often openai sends a request again: waits of half a second to eight, half a minute together."""
TIMEOUT = httpx2.Timeout(300.0, connect=10.0)
"""Seconds until a request counts as lost; a server that is busy may let it wait for most of them."""
_CHARACTERS = 3
"""Characters in a token, to estimate what a prompt will cost; in English there are more, so it is over-estimated."""


@dataclass(eq=False)
class ServerConversation:
    """One episode as its server sees it.

    Attributes:
        turns: replies so far.
        given: how many of the messages were there before the first observation.
        home: number of the server that it is played on; None before the first request.
        read: tokens that the server has read so far, prompt and reply of the last request.
    """

    messages: list[Message]
    sampling: Sampling
    seed: tuple[int, ...]
    tools: tuple[str, ...] = ()
    turns: int = 0
    given: int = 1
    home: int | None = None
    read: int = 0
    seen: int = 0
    ids: EngineTokens = field(default_factory=EngineTokens)

    def tokens(self) -> tuple[Tokens, ...]:
        """See `Conversation.tokens`."""
        return self.ids.tokens()

    @property
    def opening(self) -> int:
        """What conversations that begin alike have in common, as a number."""
        return zlib.crc32("\n".join(m.content for m in self.messages[: self.given + 1]).encode(errors="replace"))

    def prompt_estimate(self) -> int:
        """About how many tokens the next prompt has: what was counted before, and the characters since."""
        new = sum(len(m.content) for m in self.messages[self.seen :])
        return self.read + new // _CHARACTERS + 1


class ServerPolicy:
    """A model on one or more equal servers as a policy.

    Args:
        servers: the model's name and the servers' addresses.
        max_new_tokens: longest reply, in tokens.
        one_line: whether a reply ends at its first line break, which is enough for a bare action.
        spending: counts all requests of the command, and stops at its limit.
        name: what trajectories call this policy; by default the model's own name.
        opening: messages with which every conversation begins, instead of a system message.

    Raises:
        PolicyError: a server does not answer, refuses the key, does not have the model, or is not like the others.
    """

    def __init__(
        self,
        servers: ServerName,
        *,
        max_new_tokens: int = 64,
        one_line: bool = True,
        spending: Spending | None = None,
        name: str | None = None,
        opening: Sequence[Message] = (),
    ) -> None:
        self.name = name or servers.name
        self.opening = tuple(opening)
        self.model = servers.model
        self.addresses = servers.addresses
        self.max_new_tokens = max_new_tokens
        self.stop = ["\n"] if one_line else None
        self.spending = spending if spending is not None else Spending()
        self.server: Server = look(servers, self.spending)
        self.identity = self.server.identity

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> ServerConversation:
        """See `Policy.start`."""
        given = self.opening or (Message("system", system),)
        return ServerConversation([*given], sampling, seed, given=len(given))

    def reply(self, conversations: Sequence[ServerConversation]) -> list[Reply]:
        """See `Policy.reply`; a session for this call alone.

        Raises:
            LimitError, PolicyError: as in a session.
        """

        async def all_of_them() -> list[Reply]:
            async with self.session() as ask:
                return list(await asyncio.gather(*map(ask, conversations)))

        return interruptible.run(all_of_them())

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[ServerConversation], Awaitable[Reply]]]:
        """See `ServedPolicy.session`."""
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    openai.AsyncOpenAI(
                        base_url=address,
                        api_key=key_for(address) or "none",
                        max_retries=RETRIES,
                        timeout=TIMEOUT,
                        http_client=connections.client(),
                    )
                )
                for address in self.addresses
            ]
            yield _Session(self, clients).ask

    def request(self, conversation: ServerConversation) -> dict[str, Any]:
        """The body of the request for a conversation's next reply."""
        body = {
            "model": self.model,
            "messages": [_written(message) for message in conversation.messages],
            **self.server.dialect.sampled(
                conversation.sampling, turn_seed(conversation.seed, conversation.turns), self.max_new_tokens
            ),
        }
        if conversation.tools:
            # A stop sequence would cut calls whose arguments have line breaks.
            body["tools"] = [json.loads(tool) for tool in conversation.tools]
            body["parallel_tool_calls"] = False
        elif self.stop is not None:
            body["stop"] = self.stop
        return body


@dataclass
class _Session:
    """Connections, and what was learned about the servers while they last.

    Attributes:
        lost: numbers of the servers that could not be reached.
        opened: by opening, set once the first conversation with it has its reply.
    """

    policy: ServerPolicy
    clients: Sequence[openai.AsyncOpenAI]
    lost: set[int] = field(default_factory=set)
    opened: dict[tuple[int, int], asyncio.Event] = field(default_factory=dict)

    async def ask(self, conversation: ServerConversation) -> Reply:
        if conversation.home is None:
            conversation.home = self._home(conversation)
        if conversation.turns:
            return await self._ask(conversation)
        opening = (conversation.home, conversation.opening)
        if (read := self.opened.get(opening)) is not None:
            await read.wait()
            return await self._ask(conversation)
        self.opened[opening] = asyncio.Event()
        try:
            return await self._ask(conversation)
        finally:
            self.opened[opening].set()

    def _home(self, conversation: ServerConversation) -> int:
        """The server of all conversations that begin alike, among those that can be reached."""
        reachable = [n for n in range(len(self.clients)) if n not in self.lost] or list(range(len(self.clients)))
        return reachable[conversation.opening % len(reachable)]

    async def _ask(self, conversation: ServerConversation) -> Reply:
        assert conversation.home is not None
        policy, client = self.policy, self.clients[conversation.home]
        with policy.spending.request(conversation.prompt_estimate(), policy.max_new_tokens) as charge:
            try:
                body = await client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=policy.request(conversation)
                )
                completion = decode(body.content)
            except openai.APIStatusError as error:
                charge.prompt = charge.reply = 0
                return self._refused(error, conversation)
            except openai.APIConnectionError as error:
                charge.prompt = charge.reply = 0
                return self._unreachable(error, conversation.home)
            except BadAnswer as error:
                # What it cost nobody knows, so it stays at the most that it may have come to.
                return Reply("", policy.server.clean(str(error)), Cause.TRANSIENT_ENGINE_FAULT)
            if completion.usage is not None:
                charge.prompt, charge.reply = completion.usage.prompt_tokens, completion.usage.completion_tokens
            conversation.read = charge.prompt + charge.reply
        reply, message = read(completion, policy.max_new_tokens)
        if message is not None:
            conversation.ids.add(await self._prompt_ids(completion, conversation, client), spelt_reply(completion))
            conversation.messages.append(message)
            conversation.turns += 1
        conversation.seen = len(conversation.messages)
        return reply

    def _refused(self, error: openai.APIStatusError, conversation: ServerConversation) -> Reply:
        said = self.policy.server.clean(say(error))
        if error.status_code in (401, 404):
            raise PolicyError(
                f"{self.policy.name}: the server refuses every request (HTTP {error.status_code}): {said}"
            )
        if error.status_code >= 500 or error.status_code in (408, 409, 429):
            problem = f"the server failed {RETRIES + 1} times, at last with HTTP {error.status_code}: {said}"
            return Reply("", problem, Cause.PERMANENT_ENGINE_FAULT)
        reply = refused(error.status_code, error.body, said)
        played = conversation.messages[conversation.given :]
        if reply.cause is Cause.CONTEXT_OVERFLOW and not any(m.role == "assistant" for m in played):
            raise PolicyError(
                f"{self.policy.name}: {reply.error}; start the server with a longer context or use shorter texts"
            )
        return reply

    def _unreachable(self, error: openai.APIConnectionError, home: int) -> Reply:
        self.lost.add(home)
        others = len(self.lost) < len(self.clients)
        cause = Cause.TRANSIENT_ENGINE_FAULT if others else Cause.PERMANENT_ENGINE_FAULT
        why = self.policy.server.clean(f"{error.__cause__ or error}") or type(error).__name__
        return Reply("", f"{self.policy.addresses[home]} did not answer {RETRIES + 1} times ({why})", cause)

    async def _prompt_ids(
        self, completion: Completion, conversation: ServerConversation, client: openai.AsyncOpenAI
    ) -> list[int] | None:
        """Ids of the prompt: in the answer, or asked of llama.cpp, which reports how it writes and splits messages."""
        if completion.prompt_token_ids is not None or not self.policy.server.tokenizes or not conversation.ids.whole:
            return completion.prompt_token_ids
        if completion.usage is None or completion.choices[0].logprobs is None or conversation.tools:
            return None
        root = str(client.base_url).rstrip("/").removesuffix("/v1")
        try:
            written = await client.post(
                f"{root}/apply-template",
                cast_to=httpx2.Response,
                body={"messages": [_written(m) for m in conversation.messages]},
            )
            prompt = msgspec.json.decode(written.content, type=_Prompt).prompt
            asked = {"content": prompt, "parse_special": True, "add_special": True}
            read = await client.post(f"{root}/tokenize", cast_to=httpx2.Response, body=asked)
            ids = msgspec.json.decode(read.content, type=_Ids).tokens
        except (openai.APIError, msgspec.MsgspecError):
            return None  # the ids are given up, which `EngineTokens` records; the messages are stored all the same
        return ids if len(ids) == completion.usage.prompt_tokens else None


class _Prompt(msgspec.Struct):
    prompt: str


class _Ids(msgspec.Struct):
    tokens: list[int]


def _written(message: Message) -> dict[str, Any]:
    """A message as servers take it: earlier reasoning is not sent back, templates drop it and some hosts refuse it."""
    written = message_to_dict(message)
    written.pop("reasoning_content", None)
    return written


__all__ = ["RETRIES", "TIMEOUT", "ServerConversation", "ServerPolicy"]
