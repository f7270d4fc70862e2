"""Tiny random models with a chat template, saved as the folders that transformers loads."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

from tests.toy import COLOURS, TASKS, Toy, solution

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def characters(*longer: str) -> Any:
    """A token a character, and one for each of the longer texts: what is decoded encodes to the same tokens again.

    Its end of text is not its end of turn.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    alphabet = [*SPECIAL, "\n", *string.printable[:95], *longer]
    tokenizer = Tokenizer(WordLevel({text: number for number, text in enumerate(alphabet)}, unk_token="?"))
    tokenizer.pre_tokenizer = Split(Regex("|".join([*map(re.escape, longer), r"[\s\S]"])), behavior="isolated")
    tokenizer.decoder = Fuse()
    return _wrapped(tokenizer, eos="<|endoftext|>")


def toy_words() -> Any:
    """Byte-level BPE over what the toy says, so that an action is a handful of tokens."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    toy = Toy()
    texts = [Toy.instruction, "system\n", "user\n", "assistant\n"]
    for task in TASKS[:30]:
        texts += [toy.reset(task), *solution(task), *(toy.step(action).observation for action in solution(task))]
    for colour in COLOURS:
        texts += [f"take {colour} key", f"drop {colour} key", f"open {colour} door", f"You hold the {colour} key."]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=500,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrapped(tokenizer, eos="<|im_end|>")


def _wrapped(tokenizer: Any, *, eos: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        bos_token="<|im_start|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


def save_model(
    folder: Path, tokenizer: Any, architecture: str = "Llama", *, seed: int = 0, spread: float = 0.2, **changes: Any
) -> Path:
    """A random float32 model, its weights drawn wide enough that greedy decoding does not merely repeat itself."""
    import torch
    import transformers

    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": spread,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = getattr(transformers, f"{architecture}Config")(**{**settings, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).to(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
