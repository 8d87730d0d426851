"""A tokenizer for texts of networks, in any style, that is trained on some of them."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PADDING, START = "[PAD]", "[CLS]"

LEAST_VOCABULARY = 2 + len(pre_tokenizers.ByteLevel.alphabet())
"""Every byte has a token, so that no text is beyond the tokenizer."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE over what stands between blanks; the end of a line is a token.

    A line of a text is a few tokens that way, `Conv`, `1`, `w[a,a,3,3]` and so on, and a word that the texts
    do not have is spelt in pieces.

    Args:
        texts: what it is trained on.
        vocabulary: tokens, at most; no fewer than `LEAST_VOCABULARY`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PADDING, START],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    start = (START, tokenizer.token_to_id(START))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[start])
    return wrapped(tokenizer, PADDING)


def wrapped(tokenizer: Tokenizer, padding: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer as `transformers` uses it, which cuts texts but keeps what stands around them."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=padding)
