"""Language models that score texts: any of Hugging Face, or a small one that is made for networks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ModernBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates.tokenizer import train_tokenizer, wrapped

_CONFIG, _TOKENIZER, _WEIGHTS = "config.json", "tokenizer.json", "weights.safetensors"


class LanguageModel(nn.Module):
    """A sequence classifier of one class, whose logit is the score, and the tokenizer that it reads with."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        """Take both."""
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def small(cls, texts: Sequence[str], vocabulary: int) -> Self:
        """Return a ModernBERT (arXiv 2412.13663) of some 170,000 weights that knows nothing yet.

        Its tokenizer is trained on the texts. The head reads the mean over a text.
        """
        tokenizer = train_tokenizer(texts, vocabulary)
        padding = tokenizer.pad_token_id
        config = ModernBertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=2,
            classifier_pooling="mean",
            num_labels=1,
            pad_token_id=padding,
            bos_token_id=padding,
            eos_token_id=padding,
            cls_token_id=padding,
            sep_token_id=padding,
        )
        return cls(AutoModelForSequenceClassification.from_config(config), tokenizer)

    @classmethod
    def pretrained(cls, name: str) -> Self:
        """Return a model of the Hub, or of a folder, with a new head.

        Raises:
            PredictorError: there is none of that name, or it cannot be a classifier of texts.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModelForSequenceClassification.from_pretrained(
                name, num_labels=1, dtype=torch.float32, ignore_mismatched_sizes=True
            )
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise PredictorError(f"{name} is no language model that can score texts: {error}") from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise PredictorError(f"the tokenizer of {name} is none of the library `tokenizers`")
        padding = tokenizer.pad_token or tokenizer.eos_token
        if padding is None:
            raise PredictorError(f"the tokenizer of {name} has no token to pad with")
        tokenizer.pad_token = padding
        tokenizer.padding_side = "right"
        model.config.pad_token_id = tokenizer.pad_token_id
        return cls(model, tokenizer)

    @property
    def longest(self) -> int | None:
        """Tokens that the model can read, where it has a bound."""
        bound = getattr(self.model.config, "max_position_embeddings", None)
        return bound if isinstance(bound, int) and bound > 0 else None

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of `TokenBatches`: (rows,)."""
        read = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        scores: Tensor = read.logits[:, 0]
        return scores

    def files(self) -> dict[str, bytes]:
        """Return the contents of files that `of_files` makes the same model of."""
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        tokenizer = {
            "tokenizer": self.tokenizer.backend_tokenizer.to_str(),
            "padding": self.tokenizer.pad_token,
        }
        return {
            _CONFIG: self.model.config.to_json_string(use_diff=False).encode(),
            _TOKENIZER: json.dumps(tokenizer).encode(),
            _WEIGHTS: bytes_of(weights),
        }

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> Self:
        """Make a model of what `files` returned; no code is run but that of `transformers`."""
        config = json.loads(files[_CONFIG])
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**config))
        model.load_state_dict(tensors_of(files[_WEIGHTS]))
        stored = json.loads(files[_TOKENIZER])
        return cls(model, wrapped(Tokenizer.from_str(stored["tokenizer"]), stored["padding"]))
