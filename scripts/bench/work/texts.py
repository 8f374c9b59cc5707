"""Texts of 8 to 60 made-up words with one of two labels, and a small BERT with random weights and a vocabulary of its own."""

import csv
import random
from pathlib import Path

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "st")]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LONGEST = 64


def write_bert(folder: Path, layers: int = 12, width: int = 256) -> Path:
    """Write model and tokenizer in the form of the transformers library, and return the directory."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join([*MARKS, *WORDS]))
    torch.manual_seed(0)
    size = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64}
    config = BertConfig(
        vocab_size=len(MARKS) + len(WORDS), intermediate_size=4 * width, max_position_embeddings=LONGEST, **size
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(vocabulary), model_max_length=LONGEST).save_pretrained(folder)
    return folder


def write_texts(folder: Path, rows: int) -> Path:
    """Write the table `text,label` and return it: each text leans to the words of its label."""
    rng = random.Random(0)
    with (folder / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(rows):
            label = rng.randrange(2)
            own = WORDS[label::2]
            words = [rng.choice(own if rng.random() < 0.6 else WORDS) for _ in range(rng.randint(8, LONGEST - 4))]
            writer.writerow([" ".join(words), ("this", "that")[label]])
    return folder / "texts.csv"
