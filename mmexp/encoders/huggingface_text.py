"""Any text encoder of the transformers library, from a local folder or by its name on the hub."""

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import fast_attention
from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.huggingface_dual import fills_context, pools_last_token, space_of
from mmexp.encoders.packages import located
from mmexp.encoders.text_models import Pooling, longest_text, pool, stated_pooling
from mmexp.encoders.tokens import pad, word_edges, words_of
from mmexp.encoders.transformers_weights import part_report, pretrained_model
from mmexp.encoders.unused import retire_unused
from mmexp.errors import RequestError
from mmexp.shapes import Marks, PretrainedSpace
from mmexp.state_dicts import LoadReport, used_names
from mmexp.types import Encoded, PositiveInt, Prepared


class HuggingFaceText(nn.Module):
    """The model `name`. `pretrained=false` takes its architecture alone.

    `context_length` is the most tokens a caption may have, at most what the model can read; `cut` counts longer ones. `pooling`
    takes the first token, the last or the mean of the real ones; None is what a folder of sentence-transformers states, else
    the last of CLIP and SigLIP, as these pool, and the mean of others. Texts of SigLIP fill the context. A local folder, or
    `package:PACKAGE/FOLDER`, is read without the network. Raises RequestError where there is no such model.
    """

    modality = "text"
    # The names of BERT, RoBERTa, DeBERTa; DistilBERT; MPNet; T5; GPT-2, ModernBERT, CLIP.
    adapter_targets = (
        r".*\.(query|key|value|query_proj|key_proj|value_proj|q_lin|k_lin|v_lin|out_lin|lin1|lin2|q_proj|k_proj|v_proj"
        r"|out_proj|o_proj|gate_proj|up_proj|down_proj|fc1|fc2|[qkvo]|wi|wi_0|wi_1|wo|Wqkv|Wi|Wo|dense)"
    )

    def __init__(
        self,
        name: str,
        pretrained: bool = True,
        context_length: PositiveInt | None = None,
        pooling: Literal["cls", "mean", "last"] | None = None,
    ):
        super().__init__()
        self.pooling: Pooling
        self.tokenizer, self.model, report, self.pooling, space = _load(name, pretrained, pooling)
        self.pretrained, self.cut = pretrained, 0
        self.source, self._space = name, space if self.pooling == "last" else None
        self.trims = not fills_context(self.model.config.model_type)
        limit = longest_text(self.model, self.tokenizer)
        if context_length and context_length > limit:
            raise RequestError(
                f"context_length={context_length} is more than the {limit} tokens that '{name}' can read."
            )
        self.context = context_length or limit
        self.vocab_size: int = self.model.get_input_embeddings().num_embeddings
        takes_vectors = "inputs_embeds" in signature(self.model.forward).parameters
        self.word_dim = self.model.get_input_embeddings().embedding_dim if takes_vectors else None
        self.pad_token_id = _mark(self.tokenizer, "pad", "eos", "unk")
        self.mask_token_id = _mark(self.tokenizer, "mask", "unk", "eos")
        # As the library's own decoders do: T5 begins with padding.
        begin, end = _mark(self.tokenizer, "bos", "cls", "pad", "eos"), _mark(self.tokenizer, "eos", "sep", "pad")
        self.marks = Marks(begin, end, self.pad_token_id)
        blank = torch.full((1, 2), self.mask_token_id)
        self.dim = retire_unused(self, {"ids": blank, "mask": torch.ones_like(blank).bool()}).pooled.shape[-1]
        self.weights_report = str(report or "")
        if report:
            report.require(f"'{name}'", used_names(self.model))

    @property
    def pretrained_space(self) -> PretrainedSpace | None:
        """The common space of a CLIP or SigLIP, None where its weights are random or it is pooled otherwise."""
        return self._space and replace(self._space, source=self.source)

    @property
    def word_edges(self) -> Tensor | None:
        """Whether each id begins a word, and whether it ends one (2, V); None where the tokenizer does not tell."""
        return word_edges(self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer))), self.vocab_size)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return `ids (B, N)` and `mask (B, N)`; the tokenizer's own marks stay where a caption is cut.

        Where the model was trained on padding too (SigLIP), captions fill the context, `mask` is true everywhere, and
        `real (B, N)` says which tokens are no padding.
        """
        rows = [self.tokenizer(value, verbose=False)["input_ids"] for value in values]
        for i, row in enumerate(rows):
            if len(row) > self.context:
                self.cut += 1
                rows[i] = self.tokenizer(values[i], truncation=True, max_length=self.context)["input_ids"]
        padded = pad(rows, self.pad_token_id)
        if self.trims:
            return padded
        beyond = (0, self.context - padded["ids"].shape[1])
        ids, real = F.pad(padded["ids"], beyond, value=self.pad_token_id), F.pad(padded["mask"], beyond)
        return {"ids": ids, "mask": torch.ones_like(real), "real": real}

    def decode(self, ids: Tensor) -> list[str]:
        """Return the texts of `ids (B, N)`, each up to its end mark."""
        rows = [words_of(row, self.marks) for row in ids.tolist()]
        return [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows]

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `ids (B, N)` with `mask (B, N)`; `added (B, N, word_dim)` is added to the words' vectors."""
        ids, mask = prepared["ids"], prepared["mask"]
        words = {"input_ids": ids}
        if "added" in prepared:
            words = {"inputs_embeds": self.model.get_input_embeddings()(ids) + prepared["added"]}
        with fast_attention(ids.device, self.model.dtype):
            tokens = self.model(**words, attention_mask=mask.long()).last_hidden_state
        return Encoded(tokens, pool(tokens, mask, self.pooling), mask)


def _load(
    name: str, pretrained: bool, pooling: Pooling | None
) -> tuple[Any, Any, LoadReport | None, Pooling, PretrainedSpace | None]:
    """Return tokenizer and text model, what was found of the weights where these are asked for, the pooling and the space."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    name = located(name)
    wrong = f"'{name}' is neither a folder with a model and its tokenizer nor to be had from the hub"
    with in_folder(wrong) if Path(name).is_dir() else from_hub(wrong):
        tokenizer, config = AutoTokenizer.from_pretrained(name), AutoConfig.from_pretrained(name)
        own: Pooling = "last" if pools_last_token(config.model_type) else "mean"
        pooling = pooling or stated_pooling(name, own)
        if pretrained:
            whole, report = pretrained_model(AutoModel, name, dtype=torch.float32)
        else:
            whole, report = AutoModel.from_config(config), None
    model = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    model = getattr(model, "text_model", model)
    space = space_of(whole, report, "text")
    report = report and part_report(whole, model, report)
    if getattr(model, "pooler", None) is not None:
        # A dense layer behind the first token, trained for other ends.
        model.pooler = None
    return tokenizer, model, report, pooling, space


def _mark(tokenizer: Any, *names: str) -> int:
    """Return the id of the first of these marks that the tokenizer has."""
    found = (getattr(tokenizer, f"{name}_token_id", None) for name in names)
    return next((mark for mark in found if mark is not None), 0)
