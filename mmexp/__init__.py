"""mmexp: experiments on multimodal models."""

import logging

# What libraries say of each other's calls is nothing that a user can act on: torchao, which peft imports, has old ones.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
