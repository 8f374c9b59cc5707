"""Build the bundled tokenizer: byte-level BPE over the training split's texts, most of them English.

    python scripts/build_tokenizer.py

Any language can be written with it; English costs the fewest pieces. The output is deterministic.
"""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mmexp.data.emoji import ASSETS, emoji

VOCAB_SIZE = 4096
SPECIAL = ["[PAD]", "[MASK]", "[BOS]", "[EOS]"]
# How often the English texts are read for each time that those of another language are.
ENGLISH = 20


def texts(locale: str) -> list[str]:
    """Return the training split's texts, each concept's once."""
    train = emoji(locale).splits["train"]
    return sorted({train.read(row, "text") for row in range(len(train))})


def corpus() -> Iterator[str]:
    """Yield every text, English ones many times."""
    for file in sorted(ASSETS.glob("text/*.parquet")):
        for _ in range(ENGLISH if file.stem == "en" else 1):
            yield from texts(file.stem)


def build() -> Tokenizer:
    """Train the tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[BOS]", "[EOS]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    return tokenizer


if __name__ == "__main__":
    file = Path(ASSETS).parent / "tokenizer.json"
    tokenizer = build()
    tokenizer.save(str(file), pretty=False)
    english = texts("en")
    lengths = [len(tokenizer.encode(text).ids) for text in english]
    print(f"{file.name}: {tokenizer.get_vocab_size()} pieces; an English text has {sum(lengths) / len(lengths):.1f}")
