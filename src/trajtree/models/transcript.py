"""From chat messages to tokens, in one place for both playing and training.

A transcript grows turn by turn: the template's text between two agent turns is tokenised separately, and the agent's
own tokens are kept as the engine made them. So training sees exactly the tokens that generation sees, and knows which
of them are the agent's. If a template rewrites history (Qwen3 drops earlier thinking), the new prompt does not
extend the old text; the transcript then closes the sequence and starts a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from trajtree.chat import is_object, message_to_dict
from trajtree.errors import PolicyError
from trajtree.trajectory import Message, Tokens, ToolCall

_PROBE = "yes"
"""An assistant message, rendered to see what the template writes after it."""
_SHOWN = 100
"""How many characters of arguments a message shows."""
_THOUGHT, _TOOL = "because", "get_time"
_THINKING = "<think>", "</think>"
"""Between these a model thinks; a template may begin the thoughts itself."""
_PROBES = {
    "calls": Message("assistant", "", tool_calls=(ToolCall("call00001", _TOOL, "{}"),)),
    "thoughts": Message("assistant", _PROBE, _THOUGHT),
}
"""Replies, rendered to see whether the template has a place for their calls and their thoughts."""

Rewrite = Callable[[Sequence[Message], Sequence[str], str], tuple[Sequence[Message], Sequence[str]]]
"""Makes of messages, tools and a name for errors the messages and tools that the template is to write."""


class _UnwritableCall(PolicyError):
    """The chat template cannot write a call because its arguments are not a JSON object."""


class ChatFormat:
    """How one tokenizer writes a conversation.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        name: the model's name, for error messages.
        rewrite: what `tokenise` does with a conversation before the template writes it.

    Attributes:
        end_of_turn: the special token with which the template ends an assistant turn.
        stop_ids: tokens at which generation stops: `end_of_turn`, and the tokenizer's own end of text.

    Raises:
        PolicyError: there is no chat template, or it does not end the assistant's turn with a special token.
    """

    def __init__(self, tokenizer: Any, name: str = "model", rewrite: Rewrite | None = None) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise PolicyError(
                f"{name}: its tokenizer has no chat template, which is needed to mark where turns begin and end; "
                "use the model's chat or instruct variant, or save a chat_template with the tokenizer"
            )
        self.tokenizer = tokenizer
        self.name = name
        self.rewrite = rewrite
        full = self._render([Message("user", "hello"), Message("assistant", _PROBE)], (), prompt=False)
        tail = self.encode(full[full.rindex(_PROBE) + len(_PROBE) :])
        if not tail or tail[0] not in _special_ids(tokenizer):
            raise PolicyError(f"{name}: its chat template does not end an assistant turn with a special token")
        self.end_of_turn: int = tail[0]
        self.stop_ids = {tail[0], tokenizer.eos_token_id} - {None}

    def prompt(self, messages: Sequence[Message], tools: Sequence[str] = ()) -> str:
        """The text up to where the agent's next reply begins."""
        return self._render(messages, tools, prompt=True)

    def has_place_for(self, part: str) -> bool:
        """Whether the template writes a reply's "calls" or "thoughts", or begins the thoughts itself."""
        messages = [Message("user", "hello"), _PROBES[part]]
        tool = json.dumps({"type": "function", "function": {"name": _TOOL, "parameters": {}}})
        try:
            prompt = self.prompt(messages[:1])
            text = self._render(messages, [tool] if part == "calls" else [], prompt=False)
        except PolicyError:
            return False
        if part == "calls":
            return _TOOL in text.rpartition("hello")[2]  # before it, the tool is only defined
        return _THOUGHT in text or _THINKING[0] in prompt

    @cached_property
    def writes_plainly(self) -> bool:
        """Whether the template writes a reply without thoughts and calls right where the prompt for it ends.

        It may do so only once the conversation goes on, as Qwen3's does, which writes empty thoughts before the last
        reply. Space at the reply's beginning does not count: templates trim it or put some there.
        """
        messages = [Message("user", "hello"), Message("assistant", _PROBE)]
        return self._continues(messages) or self._continues(messages, goes_on=True)

    def plain_reply(self, messages: Sequence[Message], tools: Sequence[str] = ()) -> str:
        """The text of the last message, a reply without thoughts and calls, up to the end of its turn.

        It is the reply's content where that follows the prompt, or closes the thoughts that the prompt begins.
        Otherwise it is what the template writes, which may close the thoughts first, or name the reply's channel.

        Raises:
            PolicyError: the template does not write a reply where the prompt ends.
        """
        if self.writes_plainly or self._closes_thoughts(messages, tools) or self._continues(messages, tools):
            return messages[-1].content + self.decode([self.end_of_turn])
        return self.written_reply(messages, tools)

    def _closes_thoughts(self, messages: Sequence[Message], tools: Sequence[str]) -> bool:
        begins, ends = _THINKING
        return ends in messages[-1].content and self.prompt(messages[:-1], tools).rstrip().endswith(begins)

    def _continues(self, messages: Sequence[Message], tools: Sequence[str] = (), *, goes_on: bool = False) -> bool:
        """Whether the last message, a reply, follows the prompt for it; `goes_on`: where the conversation goes on."""
        prompt = self.prompt(messages[:-1], tools).rstrip()
        try:
            more = [Message("user", "hello")] if goes_on else []
            whole = self._render([*messages, *more], tools, prompt=goes_on)
        except PolicyError:
            return False
        said = messages[-1].content.strip()
        return said != "" and whole.startswith(prompt) and whole[len(prompt) :].lstrip().startswith(said)

    def written_reply(self, messages: Sequence[Message], tools: Sequence[str] = ()) -> str:
        """The text of the last message, a reply by the agent, as the template writes it, up to the end of its turn.

        Raises:
            PolicyError: the template leaves out its reasoning or its tool calls, or does not write it where the prompt
                ends.
        """
        reply = messages[-1]
        prompt, whole = self.prompt(messages[:-1], tools), self._render(messages, tools, prompt=False)
        end = self.decode([self.end_of_turn])
        if not whole.startswith(prompt) or end not in whole[len(prompt) :]:
            raise PolicyError(
                f"{self.name}: its chat template does not write a reply where its prompt for one ends; "
                "save with the tokenizer a chat_template that writes it there, or use another model"
            )
        text = whole[len(prompt) : whole.rindex(end) + len(end)]
        lost = [call.name for call in reply.tool_calls if call.name not in text]
        if lost or (reply.reasoning or "").strip() not in text:
            what = f"the call of tool {lost[0]}" if lost else "the reasoning"
            raise PolicyError(
                f"{self.name}: its chat template leaves out {what}, which would then not be trained; "
                "use a model with a template that includes it, or write it as text: "
                f"trajtree train --render-{'calls' if lost else 'thoughts'}"
            )
        return text

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; special tokens only where the text contains them."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, including special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _render(self, messages: Sequence[Message], tools: Sequence[str], *, prompt: bool) -> str:
        from jinja2 import TemplateError

        written = [_template_message(m) for m in messages]
        known = [json.loads(tool) for tool in tools] or None
        try:
            text: str = self.tokenizer.apply_chat_template(
                written, tools=known, tokenize=False, add_generation_prompt=prompt
            )
        except (TemplateError, TypeError, ValueError) as error:
            broken = next((call for m in messages for call in m.tool_calls if not is_object(call.arguments)), None)
            # Templates refuse on purpose with a plain TemplateError; what they stumble over has types of its own.
            if broken is not None and type(error) is not TemplateError:
                raise _UnwritableCall(
                    f"{self.name}: its chat template cannot write the call of tool {broken.name}, whose arguments are "
                    f"not a JSON object: {_beginning(broken.arguments)}; leave this run out, or correct the arguments"
                ) from error
            if not isinstance(error, TemplateError):
                raise
            roles = ", ".join(m.role for m in messages)
            raise PolicyError(f"{self.name}: its chat template rejects the roles {roles}: {error}") from None
        return text


def _template_message(message: Message) -> dict[str, Any]:
    written = message_to_dict(message)
    for call in written.get("tool_calls", []):
        # Templates access individual arguments, so transformers specifies an object, not JSON text. Arguments that the
        # agent broke are not JSON; they stay text, as it wrote them.
        with suppress(ValueError):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return written


def _beginning(text: str) -> str:
    """The text as a literal, cut where it is too long for a message."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _special_ids(tokenizer: Any) -> set[int]:
    return set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())


class Transcript:
    """The tokens of one conversation, as they are fed to the model.

    Attributes:
        ids: the tokens of the sequence that is still open.
    """

    def __init__(self, chat: ChatFormat, tools: Sequence[str] = ()) -> None:
        self._chat = chat
        self._tools = tools
        self._text = ""
        self._closed: list[Tokens] = []
        self.ids: list[int] = []
        self._agent: list[tuple[int, int]] = []

    def feed(self, messages: Sequence[Message]) -> bool:
        """Append everything up to the agent's next reply.

        Returns:
            Whether the new prompt extends the old text. If not, a new sequence has begun.
        """
        prompt = self._chat.prompt(messages, self._tools)
        appended = prompt.startswith(self._text)
        if not appended:
            self._close()
        self.ids += self._chat.encode(prompt[len(self._text) :])
        self._text = prompt
        return appended

    def reply(self, ids: Sequence[int], text: str | None = None) -> None:
        """Append the agent's tokens; `text` is what the template will write for them, by default their decoded text."""
        if ids:
            self._agent.append((len(self.ids), len(self.ids) + len(ids)))
            self.ids += ids
            self._text += self._chat.decode(ids) if text is None else text

    def take_over(self, messages: Sequence[Message], tokens: Sequence[Tokens]) -> None:
        """Go on where another conversation was after its last reply in `messages`, with the tokens that it had.

        Args:
            messages: what was said, by everyone.
            tokens: of that conversation as a whole; it may have gone on further.
        """
        replies = [index for index, message in enumerate(messages) if message.role == "assistant"]
        left = len(replies)
        for sequence in tokens:
            if left <= len(sequence.agent):
                start, end = sequence.agent[left - 1]
                self.ids, self._agent = list(sequence.ids[:end]), list(sequence.agent[:left])
                prompt = self._chat.prompt(messages[: replies[-1]], self._tools)
                self._text = prompt + self._chat.decode(sequence.ids[start:end])
                return
            self._closed.append(sequence)
            left -= len(sequence.agent)

    def tokens(self) -> tuple[Tokens, ...]:
        """All sequences in which the agent said something."""
        open_ = [Tokens(tuple(self.ids), tuple(self._agent))] if self._agent else []
        return tuple(self._closed + open_)

    def _close(self) -> None:
        if self._agent:
            self._closed.append(Tokens(tuple(self.ids), tuple(self._agent)))
        self._text, self.ids, self._agent = "", [], []


def tokenise(
    chat: ChatFormat,
    messages: Sequence[Message],
    tools: Sequence[str] = (),
    name: str = "a conversation",
    *,
    verbatim: bool = False,
) -> tuple[Tokens, ...]:
    """Tokens of a conversation that no engine produced, for example an expert's.

    The agent's tokens are those of each assistant message, including the one that ends its turn. Nothing after the last
    of them is kept. `name` is for errors. `verbatim` puts a reply without reasoning and calls right behind the prompt,
    where an engine says it, also if the template would write something between them.

    Raises:
        PolicyError: the template leaves out a reply's reasoning or tool calls, cannot write the arguments of a call, or
            does not write a reply where the prompt for it ends.
        DataError: the chat format's `rewrite` cannot rewrite the conversation.
    """
    if chat.rewrite is not None:
        messages, tools = chat.rewrite(messages, tools, name)
    transcript = Transcript(chat, tools)
    end = chat.decode([chat.end_of_turn])
    try:
        for index, message in enumerate(messages):
            if message.role == "assistant":
                transcript.feed(messages[:index])
                if message.tool_calls or message.reasoning is not None:
                    text = chat.written_reply(messages[: index + 1], tools)
                elif verbatim:
                    text = message.content + end
                else:
                    text = chat.plain_reply(messages[: index + 1], tools)
                transcript.reply([*chat.encode(text[: -len(end)]), chat.end_of_turn], text)
    except _UnwritableCall as error:
        raise PolicyError(f"{name}: {error}") from None
    return transcript.tokens()


__all__ = ["ChatFormat", "Rewrite", "Transcript", "tokenise"]
