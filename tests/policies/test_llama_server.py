"""The server policy against a real server: llama.cpp's, with SmolLM2, in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("openai")
from tests.policies.llama_server import gguf, llama_server
from tests.toy import Toy

from trajtree.errors import EngineError, PolicyError
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.models.weights import PACKAGED, ModelRef
from trajtree.policies import server
from trajtree.policies.base import Reply
from trajtree.policies.server import ServerPolicy
from trajtree.policies.server_name import ServerName
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Cause, Message, Outcome, Sampling

pytestmark = pytest.mark.real
GREEDY = Sampling()
SYSTEM = "You answer with one short sentence."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with llama_server(gguf()) as (address, _):
        yield address


def policy_of(url: str, **settings: object) -> ServerPolicy:
    return ServerPolicy(ServerName("smol", (url,)), **{"max_new_tokens": 24, **settings})


def asked(policy: ServerPolicy, *turns: str, sampling: Sampling = GREEDY) -> tuple[server.ServerConversation, Reply]:
    conversation = policy.start(SYSTEM, sampling, (1,))
    for turn in turns:
        conversation.messages.append(Message("user", turn))
        (reply,) = policy.reply([conversation])
    return conversation, reply


def test_what_it_says_of_itself(url: str) -> None:
    policy = policy_of(url)
    assert policy.identity["owned_by"] == "llamacpp" and "n_vocab" in policy.identity["meta"]
    assert "created" not in policy.identity and policy.identity["system_fingerprint"]
    assert policy.identity == policy_of(url).identity
    assert policy.spending.requests == 1 and policy.spending.tokens > 10


def test_the_same_seed_says_the_same(url: str) -> None:
    policy = policy_of(url)
    warm = Sampling(1.0)
    one, again = (asked(policy, "Name a plant.", sampling=warm)[1].text for _ in range(2))
    assert one == again and one != asked(policy, "Name a river.", sampling=warm)[1].text


def test_ends_are_typed(url: str) -> None:
    assert asked(policy_of(url), "Say: yes")[1].error is None
    long = asked(policy_of(url, max_new_tokens=3), "Write a long story.")[1]
    assert long.cause is Cause.REPLY_TOO_LONG
    full, reply = asked(policy_of(url), "Say: yes", "word " * 1200)
    assert reply.cause is Cause.CONTEXT_OVERFLOW and "exceeds the available context" in str(reply.error)
    assert [m.role for m in full.messages] == ["system", "user", "assistant", "user"]
    with pytest.raises(PolicyError, match="does not fit the server's context"):
        asked(policy_of(url), "word " * 1200)


def test_its_tokens_are_those_of_the_local_model(url: str) -> None:
    """Prompts and replies of three turns decode, by SmolLM2's own tokenizer, to what its template writes."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    from trajtree.models.transcript import ChatFormat, tokenise
    from trajtree.models.weights import load_tokenizer

    assert transformers
    conversation, _ = asked(policy_of(url, max_new_tokens=60), "Say: yes", "Say: no", "Say: perhaps")
    (tokens,) = conversation.tokens()
    chat = ChatFormat(load_tokenizer(PACKAGED))
    assert len(tokens.agent) == 3 and len(tokens.logprobs) == sum(b - a for a, b in tokens.agent)
    assert all(p <= 0 for p in tokens.logprobs)
    replies = [m.content for m in conversation.messages if m.role == "assistant"]
    spelt = [chat.decode([i for i in tokens.ids[a:b] if i not in chat.stop_ids]) for a, b in tokens.agent]
    assert spelt == replies
    (written,) = tokenise(chat, conversation.messages)
    assert chat.decode(written.ids).startswith(chat.decode(tokens.ids))


def test_first_tokens_are_as_frequent_as_the_local_models(url: str) -> None:
    """Total variation between 100 draws of each, against what two samples of one distribution may differ by."""
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    from trajtree.policies.local import LocalPolicy

    count, sampling = 100, Sampling(0.6, 0.8)
    local = LocalPolicy(ModelRef(PACKAGED), max_new_tokens=1, dtype="float32")
    frequencies = []
    for policy in (policy_of(url, max_new_tokens=1), local):
        talks = [policy.start(SYSTEM, sampling, (seed,)) for seed in range(count)]
        for conversation in talks:
            conversation.messages.append(Message("user", "Name a plant."))
        frequencies.append(Counter(reply.text for reply in policy.reply(talks)))
    served, own = frequencies
    distance = sum(abs(served[text] - own[text]) for text in served | own) / (2 * count)
    assert distance < 0.25, (served, own)
    assert len(served) > 1


def test_episodes_survive_a_killed_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle: what was finished stays, and the same command on a new server plays the rest."""
    monkeypatch.setattr(server, "RETRIES", 0)
    store = TrajectoryStore(tmp_path / "trajectories.jsonl", create=True)
    episodes = independent([f"toy/{n}" for n in range(12)], 1, [Sampling(0.8)])
    with llama_server(gguf()) as (address, process):

        class Killing:
            def total(self, amount: int) -> None:
                self.left = 4

            def advance(self, amount: int, figures: object = None) -> None:
                self.left -= amount
                if self.left == 0:
                    process.kill()

        with pytest.raises(EngineError, match="did not answer"):
            rollout(episodes, policy_of(address, max_new_tokens=8), Toy, store, seed=0, batch=4, progress=Killing())
    half = {t.key: t for t in store if t.outcome is not Outcome.ENGINE_ERROR}
    assert 4 <= len(half) < len(episodes)
    with llama_server(gguf()) as (address, _):
        rollout(episodes, policy_of(address, max_new_tokens=8), Toy, store, seed=0, batch=4)
    played = list(store)
    assert Counter(t.key for t in played) == Counter(spec.key for spec in episodes)
    assert {t.key: t for t in played if t.key in half} == half
    assert not any(t.outcome.is_fault for t in played)
    spoke = [t for t in played if any(m.role == "assistant" and m.content for m in t.messages)]
    # A reply cut at its eighth token may end within a character: then its ids do not spell its text, and are not kept.
    told = sum(bool(t.tokens) for t in spoke)
    assert told > len(spoke) // 2, "llama.cpp tells the tokens of every reply"
