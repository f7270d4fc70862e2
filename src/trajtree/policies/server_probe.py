"""A first look at servers: whether they answer, what they say of themselves, and in which dialect they are asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from trajtree.errors import PolicyError
from trajtree.policies.answers import BadAnswer, decode
from trajtree.policies.dialects import DIALECTS, Dialect
from trajtree.policies.server_name import KEY, ServerName, key_for
from trajtree.policies.spending import Spending
from trajtree.trajectory import Sampling

_RETRIES = 3
_TIMEOUT = 120.0
_CHANGES = ("created", "permission")
"""Fields of a model's entry that are new each time a server starts or is asked."""


@dataclass(frozen=True, slots=True)
class Server:
    """What was learned of the servers of a model.

    Attributes:
        dialect: how they are asked.
        identity: what they say of themselves: the model's entry in `/v1/models`, and the `system_fingerprint`.
        tokenizes: whether they tell how messages become tokens, as llama.cpp does.
        keys: the keys that they are asked with, which must not be written anywhere.
    """

    dialect: Dialect
    identity: Mapping[str, str]
    tokenizes: bool
    keys: tuple[str, ...] = ()

    def clean(self, text: str) -> str:
        """A server's words without the key, which some repeat when they refuse it; in one line, and not endless."""
        for key in self.keys:
            text = text.replace(key, "[the key]")
        return " ".join(text.split())[:500]


def look(servers: ServerName, spending: Spending) -> Server:
    """Ask every server for its models and for one token.

    Raises:
        PolicyError: one does not answer, refuses the key, does not have the model, or is not like the others.
        LimitError: the limit does not even allow this.
    """
    first: Server | None = None
    for address in servers.addresses:
        found = _look(address, servers.model, spending)
        if first is not None and found.identity != first.identity:
            raise PolicyError(
                f"{servers.name}: {address} is not like {servers.addresses[0]}: it says {_told(found)}, the other "
                f"{_told(first)}; several addresses must be servers of the same model"
            )
        first = first or found
    assert first is not None
    return first


def say(error: openai.APIError) -> str:
    """A server's own words in an error, or openai's."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else body
    return str(said or error.message)


def _look(address: str, model: str, spending: Spending) -> Server:
    key = key_for(address)
    keys = () if key is None else (key,)
    nobody = Server(DIALECTS["plain"], {}, False, keys)
    with openai.OpenAI(base_url=address, api_key=key or "none", max_retries=_RETRIES, timeout=_TIMEOUT) as client:
        try:
            entry = _entry(client, model)
            dialect, fingerprint = _dialect(client, model, spending)
        except openai.APIConnectionError as error:
            why = nobody.clean(str(error.__cause__ or error))
            raise PolicyError(f"{address}: no server answers ({why}); start it, or correct the address") from None
        except openai.APIStatusError as error:
            answer = f"(HTTP {error.status_code}): {nobody.clean(say(error))}"
            if error.status_code >= 500:  # llama.cpp answers 503 for as long as it loads its model
                raise PolicyError(f"{address}: cannot play {model} now {answer}; try again once it is ready") from None
            hint = f"; put the key into {KEY}" if error.status_code in (401, 403) else ""
            raise PolicyError(f"{address}: refuses to play {model} {answer}{hint}") from None
        except BadAnswer as error:
            raise PolicyError(f"{address}: {nobody.clean(str(error))}; is it an OpenAI-compatible API?") from None
    said = {name: _text(value) for name, value in entry.items() if name not in _CHANGES}
    if fingerprint:
        said["system_fingerprint"] = fingerprint
    identity = {name: nobody.clean(value) for name, value in said.items()}
    return Server(dialect, identity, entry.get("owned_by") == "llamacpp", keys)


def _entry(client: openai.OpenAI, model: str) -> Mapping[str, Any]:
    """What a server says of a model; nothing where it lists no models, or several and not this one."""
    try:
        listed = json.loads(client.get("/models", cast_to=httpx2.Response).content)["data"]
        by_id: dict[str, Mapping[str, Any]] = {str(entry["id"]): entry for entry in listed}
    except openai.NotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise BadAnswer("its list of models (/models) cannot be read") from None
    # A server of one model, llama.cpp's for example, plays it under any name.
    return by_id.get(model) or (next(iter(by_id.values())) if len(by_id) == 1 else {})


def _dialect(client: openai.OpenAI, model: str, spending: Spending) -> tuple[Dialect, str | None]:
    """The first dialect in which the server says something, and its fingerprint."""
    messages = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "Hi"}]
    refusal: openai.APIStatusError | None = None
    for dialect in DIALECTS.values():
        body = {"model": model, "messages": messages, **dialect.sampled(Sampling(1.0), 0, 1)}
        with spending.request(prompt=16, reply=1) as charge:
            try:
                answer = decode(client.post("/chat/completions", cast_to=httpx2.Response, body=body).content)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                charge.prompt = charge.reply = 0
                refusal = refusal or error
                continue
            if answer.usage is not None:
                charge.prompt, charge.reply = answer.usage.prompt_tokens, answer.usage.completion_tokens
        return dialect, answer.system_fingerprint
    assert refusal is not None
    raise refusal


def _told(server: Server) -> str:
    return ", ".join(f"{name} {value}" for name, value in server.identity.items()) or "nothing"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


__all__ = ["Server", "look", "say"]
