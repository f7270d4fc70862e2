"""Keys, tokens, mail addresses and home folders in a run are replaced before it is stored.

The same text always gets the same placeholder, so that runs still merge. A placeholder is a short hash of the text: who
guesses the text can confirm the guess, but nobody can read it off. What a secret looks like is a guess as well: kinds
that are not in the table stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b

from trajtree.formats.read.searching import searcher
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, ToolCall

_KEYS = (
    r"sk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic and others
    r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}",
    r"A(?:KIA|SIA)[0-9A-Z]{16}(?![0-9A-Z])|AIza[0-9A-Za-z_-]{35}",
    r"xox[abprs]-[0-9A-Za-z-]{10,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}",
    r"(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{16,}|SG\.[\w-]{20,}\.[\w-]{20,}",
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[A-Za-z0-9+/=\s,:.]|\\[nr]|-(?!----END))*+"
    r"(?:-----END [A-Z ]*PRIVATE KEY-----)?",
)
_ALL_KEYS = "|".join(_KEYS)
_has_beginning = searcher("sk-|ghp_|github_pat_|AKIA|AIza|hf_|PRIVATE KEY-----")
"""Whether there is what the most common keys begin with."""

_KEY = re.compile(rb"(?<![A-Za-z0-9])(?:" + _ALL_KEYS.encode() + rb")")
_PUBLIC_NAMES = "user|users|root|ubuntu|runner|node|app|Shared|Public|Default"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of private text.

    Attributes:
        pattern: finds it; its group `it`, if it matched, else the whole match is replaced.
        marks: at least one of these is in every text that the pattern matches, so that most texts are not searched.
        about: what it is.
    """

    pattern: re.Pattern[str]
    marks: tuple[str, ...]
    about: str


KINDS = {
    "key": Kind(
        re.compile(rf"(?<![A-Za-z0-9])(?:{_ALL_KEYS})"),
        (
            "sk-",
            "gh",
            "github_pat_",
            "glpat-",
            "KIA",
            "SIA",
            "AIza",
            "xox",
            "hf_",
            "npm_",
            "pypi-",
            "k_",
            "SG.",
            "eyJ",
            "PRIVATE KEY",
        ),
        "keys of services, tokens, private keys",
    ),
    "secret": Kind(
        re.compile(
            r"""(?:(?:api[_-]?key|secret|token|passw(?:or)?d)[\w-]*(?:\\*["'])?\s*[:=]\s*(?:\\*["'])?|Bearer\s+)"""
            r"""(?P<it>(?=[^\s"'\\]*[0-9])(?=[^\s"'\\]*[A-Za-z])[^\s"'\\$,;<>(){}\[\]]{12,})""",
            re.IGNORECASE,
        ),
        ("ey", "EY", "ecret", "ECRET", "oken", "OKEN", "assw", "ASSW", "earer", "EARER"),
        "what is assigned to a key, secret, token or password",
    ),
    "mail": Kind(
        re.compile(r"(?<![\w.+-])(?!git@)[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
        ("@",),
        "mail addresses",
    ),
    "home": Kind(
        re.compile(
            rf"""(?:/home/|/Users/|\b[A-Za-z]:(?:\\+|/)Users(?:\\+|/))(?!(?:{_PUBLIC_NAMES}|<)(?![\w.-]))"""
            r"""(?P<it>[\w.-]+)"""
        ),
        ("/home/", "Users"),
        "the user's name in paths of home folders",
    ),
}
"""What is replaced, in this order."""


class Redactor:
    """Replaces private texts, and counts them by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """A text with placeholders."""
        for name, kind in KINDS.items():
            if any(mark in text for mark in kind.marks):
                text = kind.pattern.sub(self._placeholder(name), text)
        return text

    def run(self, found: Imported) -> Imported:
        """A run with placeholders in everything that is stored of it."""
        text = self.text
        return replace(
            found,
            messages=tuple(map(self._message, found.messages)),
            task=None if found.task is None else text(found.task),
            policy=None if found.policy is None else text(found.policy),
            tools=tuple(map(text, found.tools)),
            made=tuple(one if one.model is None else replace(one, model=text(one.model)) for one in found.made),
            metadata={
                text(name): text(value) if isinstance(value, str) else value for name, value in found.metadata.items()
            },
        )

    def _message(self, message: Message) -> Message:
        text = self.text
        return Message(
            message.role,
            text(message.content),
            None if message.reasoning is None else text(message.reasoning),
            tuple(ToolCall(call.id, text(call.name), text(call.arguments)) for call in message.tool_calls),
            message.tool_call_id,
            None if message.name is None else text(message.name),
        )

    def _placeholder(self, kind: str) -> Callable[[re.Match[str]], str]:
        def placeholder(match: re.Match[str]) -> str:
            self.counts[kind] += 1
            group = "it" if "it" in match.re.groupindex else 0
            said = match[group]
            start, end = match.span(group)
            digest = blake2b(said.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
            return f"{match[0][: start - match.start()]}<{kind}-{digest}>{match[0][end - match.start() :]}"

        return placeholder


def may_hold_a_key(data: bytes) -> bool:
    """Whether something in a line looks like one of the most common keys."""
    return _has_beginning(data) and _KEY.search(data) is not None


__all__ = ["KINDS", "Kind", "Redactor", "may_hold_a_key"]
