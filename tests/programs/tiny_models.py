"""Models of random weights that other engines load in a moment: tiny_models.py KIND DIRECTORY.

Run by the Python of the engine's own venv, for each kind is made by the library that will load it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

WORDS: Final = "the capital of france is paris cat dog moon sun red blue where what how a an".split()
_SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE: Final = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}<|im_start|>"
_MELS: Final = 80
_LANGUAGES: Final = 99
_TEXT: Final = 50257
"""Whisper's tokens of text; its special ones follow, and 1501 times."""


def embedding(directory: Path) -> None:
    """A model of BERT's shape, whose vectors have 32 figures."""
    from transformers import BertModel

    BertModel(_bert()).save_pretrained(directory)
    _word_pieces(directory)


def reranker(directory: Path) -> None:
    """Another that gives one figure for two texts."""
    from transformers import BertForSequenceClassification

    BertForSequenceClassification(_bert(num_labels=1)).save_pretrained(directory)
    _word_pieces(directory)


def _bert(**more: int) -> Any:
    import torch
    from transformers import BertConfig

    torch.manual_seed(1)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertConfig(vocab_size=128, max_position_embeddings=128, initializer_range=0.5, **shape, **more)


def _word_pieces(directory: Path) -> None:
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz.?"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    BertTokenizerFast(vocab_file=str(vocabulary), do_lower_case=True, model_max_length=128).save_pretrained(directory)


def chat(directory: Path) -> None:
    """A model of Llama's shape that answers a chat with whatever its weights say."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    pieces = {piece: number for number, piece in enumerate((*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    made = Tokenizer(models.BPE(vocab=pieces, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    end = _SPECIAL[0]
    tokens = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, pad_token=end, chat_template=_TEMPLATE)
    tokens.save_pretrained(directory)
    torch.manual_seed(1)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = LlamaConfig(vocab_size=len(pieces), max_position_embeddings=512, eos_token_id=0, pad_token_id=0, **shape)
    LlamaForCausalLM(config).save_pretrained(directory)


def whisper(directory: Path) -> None:
    """A model of Whisper's shape for CTranslate2, which hears words in any noise."""
    from ctranslate2.specs import whisper_spec

    directory.mkdir(parents=True, exist_ok=True)
    tokens = _whisper_tokens(directory)
    spec = whisper_spec.WhisperSpec(1, 2, 1, 2)
    _fill(spec, width=16, vocabulary=len(tokens))
    spec.register_vocabulary(tokens)
    spec.config.lang_ids = [_TEXT + 2]  # English, whatever it hears
    spec.config.alignment_heads, spec.config.suppress_ids_begin = [[0, 0]], [_TEXT]
    spec.config.suppress_ids = [_TEXT]  # noise has no end
    spec.validate()
    spec.save(str(directory))
    (directory / "preprocessor_config.json").write_text(json.dumps({"feature_size": _MELS}))


def _whisper_tokens(directory: Path) -> list[str]:
    """Its tokens, in the order of OpenAI's, and the tokenizer that reads them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    text = [*letters, *(f"Ġword{number}" for number in range(_TEXT - len(letters)))]
    languages = ["<|en|>", *(f"<|language{number}|>" for number in range(1, _LANGUAGES))]
    acts = "translate transcribe startoflm startofprev nospeech notimestamps".split()
    special = ["<|endoftext|>", "<|startoftranscript|>", *languages, *(f"<|{act}|>" for act in acts)]
    times = [f"<|{number * 0.02:.2f}|>" for number in range(1501)]
    made = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(text)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(piece, special=True) for piece in special])
    made.add_tokens([AddedToken(piece) for piece in times])
    made.save(str(directory / "tokenizer.json"))
    return [*text, *special, *times]


def _fill(spec: Any, *, width: int, vocabulary: int) -> None:
    """Random weights in all of its places."""
    import numpy

    chance = numpy.random.default_rng(1)

    def some(*shape: int) -> Any:
        return chance.normal(0, 0.5, shape).astype("float32")

    def linear(place: Any, outputs: int, inputs: int) -> None:
        place.weight, place.bias = some(outputs, inputs), some(outputs)

    def norm(place: Any) -> None:
        place.gamma, place.beta = numpy.ones(width, "float32"), numpy.zeros(width, "float32")

    def attention(place: Any, *, own: bool) -> None:
        norm(place.layer_norm)
        for part, outputs in zip(place.linear, (3, 1) if own else (1, 2, 1), strict=True):
            linear(part, outputs * width, width)

    for end, positions in ((spec.encoder, 1500), (spec.decoder, 448)):
        end.position_encodings.encodings = some(positions, width)
        norm(end.layer_norm)
        for layer in end.layer:
            attention(layer.self_attention, own=True)
            norm(layer.ffn.layer_norm)
            linear(layer.ffn.linear_0, 4 * width, width)
            linear(layer.ffn.linear_1, width, 4 * width)
    for layer in spec.decoder.layer:
        attention(layer.attention, own=False)
    for conv, inputs in ((spec.encoder.conv1, _MELS), (spec.encoder.conv2, width)):
        conv.weight, conv.bias = some(width, inputs, 3), some(width)
    spec.decoder.embeddings.weight = some(vocabulary, width)
    linear(spec.decoder.projection, vocabulary, width)


KINDS: Final[dict[str, Callable[[Path], None]]] = {
    "embedding": embedding,
    "reranker": reranker,
    "chat": chat,
    "whisper": whisper,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Path(sys.argv[2]))
