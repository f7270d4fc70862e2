"""A transformers model that plays many conversations at once.

One call of `reply` answers all waiting conversations. Each conversation keeps the keys and values of what it has read
and said, so a turn costs only its new tokens. Conversations with equal tokens so far are computed once, and so is the
common beginning of all opening prompts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trajtree.errors import PolicyError
from trajtree.models.transcript import ChatFormat, Transcript, tokenise
from trajtree.models.weights import ModelRef, context_length, load_model, load_tokenizer, pick_device
from trajtree.policies.base import Reply, too_long
from trajtree.policies.kv import BatchCache, Memory
from trajtree.policies.sampling import draw, no_distribution, stream
from trajtree.trajectory import Cause, Message, Sampling, Tokens

_PADDING = 1.3
"""A conversation joins a prefill group only while the padded batch stays below this times the group's tokens."""
_GROUP_TOKENS = 16384
"""Largest number of tokens in one prefill, including padding; it bounds the memory of the attention mask."""


@dataclass(eq=False)
class LocalConversation:
    """One episode: its messages, its tokens, what the model remembers of them, and its random stream.

    `memory` holds the keys and values of a beginning of `transcript.ids`, `drawn` the tokens of the latest reply, which
    is `broken` off where the model gave no distribution to draw from, and `ended` where it ended by itself before it
    reached its length limit.
    """

    messages: list[Message]
    sampling: Sampling
    random: np.random.Generator
    transcript: Transcript
    memory: Memory = ()
    drawn: list[int] = field(default_factory=list)
    broken: bool = False
    ended: bool = False

    def tokens(self) -> tuple[Tokens, ...]:
        """See `Conversation.tokens`."""
        return self.transcript.tokens()

    def take_over(self, messages: Sequence[Message], tokens: Sequence[Tokens]) -> None:
        """See `TakesOver.take_over`."""
        self.messages = list(messages)
        self.transcript.take_over(messages, tokens)

    @property
    def cached(self) -> int:
        """How many of the transcript's tokens the model remembers."""
        return sum(chunk.shape[3] for chunk in self.memory)


class LocalPolicy:
    """A causal language model of transformers as a policy.

    Args:
        ref: base model and adapters.
        max_new_tokens: longest reply, in tokens.
        one_line: whether a reply ends at its first line break, which suffices for a bare action.
        dtype: name of a torch dtype, or auto (see `pick_dtype`).
        name: the policy's name in trajectories; by default the model's own name.
        opening: messages with which every conversation begins, instead of a system message.

    Raises:
        PolicyError: the model cannot be loaded, has no chat template, or remembers otherwise than by keys and values of
            one shape.
    """

    def __init__(
        self,
        ref: ModelRef,
        *,
        max_new_tokens: int = 64,
        one_line: bool = True,
        dtype: str = "auto",
        name: str | None = None,
        opening: Sequence[Message] = (),
    ) -> None:
        tokenizer = load_tokenizer(ref.base)
        self.name = name or ref.name
        self.chat = ChatFormat(tokenizer, ref.base)
        self.opening = tuple(opening)
        self._opening_tokens = tokenise(self.chat, self.opening, verbatim=True)
        self.model: Any = load_model(ref, dtype=dtype, device=pick_device())
        self.max_new_tokens = max_new_tokens
        self.context = context_length(self.model)
        self._breaks, with_text = _line_breaks(tokenizer) if one_line else (frozenset(), frozenset())
        self._ends = self._breaks | with_text | self.chat.stop_ids
        try:
            self._shape = _shape_of(self.model.config.get_text_config())
            self.remembers = self._check_memory()
        except torch.cuda.OutOfMemoryError:
            raise
        # What transformers raises where a model's layers, or their caches, are not what this policy takes them for.
        except (RuntimeError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise PolicyError(
                f"{self.name}: cannot be played here, because its layers do not all remember keys and values of one "
                f"shape ({type(error).__name__}: {error}); play it on a server: openai:MODEL@URL"
            ) from error
        self._opening: tuple[tuple[int, ...], Tensor] | None = None

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> LocalConversation:
        """See `Policy.start`."""
        conversation = LocalConversation([Message("system", system)], sampling, stream(seed), Transcript(self.chat))
        if self.opening:
            conversation.take_over(self.opening, self._opening_tokens)
        return conversation

    @torch.inference_mode()
    def reply(self, conversations: Sequence[LocalConversation]) -> list[Reply]:
        """See `Policy.reply`.

        Raises:
            PolicyError: even the first prompt does not fit the model's context.
        """
        for conversation in conversations:
            # If the chat template rewrote history, what is remembered is no longer a prefix of the tokens.
            if not conversation.transcript.feed(conversation.messages) or not self.remembers:
                conversation.memory = ()
        fits = [c for c in conversations if len(c.transcript.ids) + self.max_new_tokens <= self.context]
        if fits:
            self._decode(fits, self._prefill(fits))
        return [self._finish(c) if c in fits else self._overflow(c) for c in conversations]

    def _finish(self, conversation: LocalConversation) -> Reply:
        if conversation.broken:
            problem = f"{self.name}: its logits are NaN or infinite; are its weights damaged? If not, play in float32"
            return Reply("", problem, Cause.PERMANENT_ENGINE_FAULT)
        text = self.chat.decode([t for t in conversation.drawn if t not in self.chat.stop_ids])
        conversation.transcript.reply(conversation.drawn)
        conversation.messages.append(Message("assistant", text))
        return Reply(text) if conversation.ended else too_long(self.max_new_tokens, text)

    def _overflow(self, conversation: LocalConversation) -> Reply:
        need = len(conversation.transcript.ids) + self.max_new_tokens
        problem = f"{self.name}: {need} tokens needed, the context holds {self.context}"
        if not any(m.role == "assistant" for m in conversation.messages[len(self.opening) :]):
            raise PolicyError(f"{problem}; use a model with a longer context or shorter observations")
        return Reply("", problem, Cause.CONTEXT_OVERFLOW)

    def _prefill(self, conversations: Sequence[LocalConversation]) -> Tensor:
        """Read what is new in each conversation; [batch, vocabulary] logits of the next token."""
        # The first conversation with given tokens is read for all that have the same tokens, for example for all
        # samples of a task at their opening prompt. Blocks are never written to again, so they can share the memory.
        first_with: dict[tuple[int, ...], LocalConversation] = {}
        for conversation in conversations:
            first_with.setdefault(tuple(conversation.transcript.ids), conversation)
        unique = list(first_with.values())
        self._share_opening(unique)
        logits: dict[tuple[int, ...], Tensor] = {}  # by tokens, [vocabulary]
        memories: dict[tuple[int, ...], Memory] = {}  # by tokens
        for group in _groups(unique):
            for conversation, row in zip(group, self._read(group), strict=True):
                logits[tuple(conversation.transcript.ids)] = row
                memories[tuple(conversation.transcript.ids)] = conversation.memory
        for conversation in conversations:
            conversation.memory = memories[tuple(conversation.transcript.ids)]
        return torch.stack([logits[tuple(c.transcript.ids)] for c in conversations])

    def _share_opening(self, conversations: Sequence[LocalConversation]) -> None:
        """Give conversations without memory the memory of the tokens with which all of them begin."""
        fresh = [c for c in conversations if not c.memory]
        if len(fresh) < 2 or not self.remembers:
            return
        # What the first and the last in sorted order have in common, all between them share too. At least one token of
        # each conversation is left to read, because the logits come from its last token.
        low, high = min(c.transcript.ids for c in fresh), max(c.transcript.ids for c in fresh)
        length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
        length = min(length, *(len(c.transcript.ids) - 1 for c in fresh))
        if length > 0:
            # The opening is kept for the next call, since all tasks of an environment usually begin with the same text.
            key = tuple(low[:length])
            if self._opening is None or self._opening[0] != key:
                memory = BatchCache([()], self._shape, length, self._like())
                self._forward(torch.tensor([key]), torch.ones(1, length, dtype=torch.long), memory)
                self._opening = key, memory.block(0, 0, length)
            for conversation in fresh:
                conversation.memory = (self._opening[1],)

    def _read(self, group: Sequence[LocalConversation]) -> Tensor:
        """Read and remember the new tokens of a group in one forward pass; [batch, vocabulary] logits after them."""
        chunks = [c.transcript.ids[c.cached :] for c in group]
        width = max(map(len, chunks))
        memory = BatchCache([c.memory for c in group], self._shape, width, self._like())
        # ids [batch, width], mask [batch, start + width]. Chunks are padded on the left, so that the last column holds
        # the last token of each. A row of the mask is padding, memory, padding, chunk; the padding in the middle is
        # harmless, because positions are counted along the mask.
        ids = torch.zeros(len(group), width, dtype=torch.long)
        mask = torch.zeros(len(group), memory.start + width, dtype=torch.long)
        for row, chunk in enumerate(chunks):
            ids[row, width - len(chunk) :] = torch.tensor(chunk)
            mask[row, memory.pads[row] : memory.start] = 1
            mask[row, memory.start + width - len(chunk) :] = 1
        logits = self._forward(ids, mask, memory)
        for row, (conversation, chunk) in enumerate(zip(group, chunks, strict=True)):
            end = memory.start + width
            conversation.memory += (memory.block(row, end - len(chunk), end),)
        return logits

    def _decode(self, conversations: Sequence[LocalConversation], logits: Tensor) -> None:
        """Draw each conversation's reply into `drawn`, and remember what the model has read of it.

        The model has read all but the last token, which ends the decoding before it is fed back. A line break that ends
        a reply is such a last token too, but is not part of the reply, unless it shares a token with text.

        Args:
            conversations: what to reply to.
            logits: [batch, vocabulary] of the first token of each reply.
        """
        for conversation in conversations:
            conversation.drawn, conversation.broken, conversation.ended = [], False, False
        memory = BatchCache([c.memory for c in conversations], self._shape, self.max_new_tokens, self._like())
        # mask [batch, columns so far], which grows by one column per step. rows: the conversation in each row of the
        # batch; done: whether its reply has ended. Rows that are done stay for a while; what they draw is ignored.
        mask = torch.zeros(len(conversations), memory.start, dtype=torch.long)
        for row, pad in enumerate(memory.pads):
            mask[row, pad:] = 1
        rows = list(conversations)
        done = [False] * len(rows)
        for step in range(self.max_new_tokens):
            for row in no_distribution(logits):
                rows[row].broken |= not done[row]
                done[row], logits[row] = True, 0.0
            # A finished conversation takes nothing from its random stream, or its next reply would depend on how long
            # the others continue.
            uniforms = [0.0 if over else c.random.random() for c, over in zip(rows, done, strict=True)]
            ids = draw(logits, [c.sampling for c in rows], uniforms)
            for row, (conversation, token) in enumerate(zip(rows, ids, strict=True)):
                if done[row]:
                    continue
                if token not in self._breaks:
                    conversation.drawn.append(token)
                conversation.ended = token in self._ends
                if conversation.ended or step == self.max_new_tokens - 1:
                    # Column start + s holds the token of step s, fed to the model before step s + 1.
                    if step:
                        conversation.memory += (memory.block(row, memory.start, memory.start + step),)
                    done[row] = True
            if all(done):
                return
            # Dropping rows copies the buffer, so it waits until half of them are done.
            if 2 * sum(done) >= len(done):
                going = [row for row, finished in enumerate(done) if not finished]
                memory.keep(going)
                rows, mask, done = [rows[r] for r in going], mask[going], [False] * len(going)
            mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=torch.long)], dim=1)
            logits = self._forward(torch.tensor([[(c.drawn or [0])[-1]] for c in rows]), mask, memory)

    def _forward(self, ids: Tensor, mask: Tensor, memory: BatchCache) -> Tensor:
        """[batch, vocabulary] logits after the last of `ids` [batch, new], attending where `mask` [batch, all] is 1."""
        # [batch, new]: a token's position is the number of real tokens before it; padding gets some position >= 0.
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        device = self.model.device
        output = self.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=memory.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        last: Tensor = output.logits[:, -1].cpu()
        return last

    def _like(self) -> Tensor:
        """Some tensor of the model, for its dtype and device."""
        parameter: Tensor = next(self.model.parameters())
        return parameter

    @torch.inference_mode()
    def _check_memory(self) -> bool:
        """Whether reading in two parts gives the same result as at once; if not, nothing is kept between turns."""
        # Ids from the middle of the vocabulary: the lowest are often special tokens, for which 16-bit logits were off
        # by 15 %, against 3 % for words. Even there, rounding alone may exceed what is tolerated for some tokens, so
        # there is a second try with others.
        size, length, reason = self.model.config.vocab_size, 12, ""
        for first in (size // 2, size // 3):
            reason = self._differs((first + torch.arange(length)[None]) % size)
            if not reason:
                break
        if windowed := _windows(self.model.config.get_text_config()):
            # A window is counted in columns, so padding between two turns would push earlier tokens out of it.
            reason = f"it has {windowed} layers"
        return not reason or self._forgets(reason)

    def _differs(self, ids: Tensor) -> str:
        """How reading `ids` [1, length] in two parts, with padding between, differs from reading them at once.

        Returns "" if it does not.
        """
        mask = torch.ones_like(ids)
        whole = (
            self.model(input_ids=ids.to(self.model.device), attention_mask=mask.to(self.model.device), use_cache=False)
            .logits[:, -1]
            .cpu()
        )
        memory = BatchCache([()], self._shape, ids.shape[1] + 3, self._like())
        self._forward(ids[:, :7], mask[:, :7], memory)
        # Some count positions in columns, whatever they are told.
        padding = torch.zeros(1, 3, dtype=torch.long)
        parts = self._forward(
            torch.cat([padding, ids[:, 7:]], 1), torch.cat([mask[:, :7], padding, mask[:, 7:]], 1), memory
        )
        tolerance = 1e-4 if whole.dtype == torch.float32 else 1e-1
        close = bool((parts - whole).abs().max() <= tolerance * whole.abs().max())
        return "" if close else "its logits differ"

    def _forgets(self, reason: str) -> bool:
        """Warn that nothing is kept between turns, and why; always returns False."""
        warnings.warn(
            f"{self.name}: memory cannot be kept between turns ({reason}); every turn reads the whole conversation",
            stacklevel=4,
        )
        return False


def _shape_of(config: Any) -> tuple[int, int, int]:
    """Layers, heads with keys and values, and the width of a head."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, heads, width


def _windows(config: Any) -> str:
    """Names of the attention types that do not see everything before them; "" if all layers do."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return ", ".join(sorted(set(kinds) - {"full_attention"}))
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return "sliding_attention" if slides else ""


def _groups(conversations: Sequence[LocalConversation]) -> list[list[LocalConversation]]:
    """Groups of conversations with about the same number of new tokens, so that little of a batch is padding."""
    groups: list[list[LocalConversation]] = []
    tokens = 0  # new tokens of the last group, without padding
    for conversation in sorted(conversations, key=lambda c: len(c.transcript.ids) - c.cached):
        # Sorted, so this conversation would be the longest of the group, and the others are padded to its length.
        new = len(conversation.transcript.ids) - conversation.cached
        padded = new * (len(groups[-1]) + 1) if groups else 0
        if not groups or padded > _PADDING * (tokens + new) or padded > _GROUP_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(conversation)
        tokens += new
    return groups


def _line_breaks(tokenizer: Any) -> tuple[frozenset[int], frozenset[int]]:
    """Tokens that are white space containing a line break, and tokens that have a line break beside text, as `.\\n`."""
    texts = ((i, tokenizer.decode([i])) for i in range(len(tokenizer)))
    breaks = {i: bool(text.strip()) for i, text in texts if "\n" in text}
    return frozenset(i for i in breaks if not breaks[i]), frozenset(i for i in breaks if breaks[i])


__all__ = ["LocalConversation", "LocalPolicy"]
