# SPDX-License-Identifier: BSD-3-Clause
"""PEFT and transformers, imported without what they and others say of each other's versions."""

import logging
import warnings

for _name in ("torch.utils._pytree", "torch.utils.cpp_extension", "bitsandbytes"):
    logging.getLogger(_name).setLevel(logging.ERROR)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft
    import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

__all__ = ["peft", "transformers"]
