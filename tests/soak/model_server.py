"""A model server without a model, to be killed: it draws its actions from a hat by the request's seed.

    python -m tests.soak.model_server PORT SHARE

A share of the requests is answered with errors, with broken JSON, or not at all.
"""

from __future__ import annotations

import sys
import time
from random import Random

from tests.policies.stub_server import Answer, Body, ok, probed, said, stub, wrong
from tests.soak.player import ACTIONS

SOON = {"retry-after-ms": "50"}


def answer(body: Body, share: float, chance: Random) -> Answer:
    """The answer to a request: always the same to the same, where it is one."""
    sound = ok(said(Random(body["seed"]).choice(ACTIONS)))
    if chance.random() >= share:
        return sound
    match chance.randrange(6):
        case 0:
            return wrong(chance.choice((429, 500, 502, 503)), headers=SOON)
        case 1:
            return sound._replace(cut=chance.randrange(len(sound.body)))
        case 2:
            return Answer(200, sound.body[: chance.randrange(len(sound.body))])
        case 3:
            raise ConnectionResetError
        case 4:
            return ok({"choices": []})
        case _:
            time.sleep(chance.random())
            return sound


def serve(port: int, share: float) -> None:
    chance = Random()
    with stub(lambda body: probed(body) or answer(body, share, chance), port=port) as served:
        print(served.url, flush=True)
        while True:
            time.sleep(600)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
