"""Graph fusion: the modalities are nodes that tell each other what they know, along edges whose strength is learned."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import masked_mean
from mmexp.fusion.poolings import projected, shares
from mmexp.fusion.streams import check_heads
from mmexp.types import Encoded, PositiveInt


class Messages(nn.Module):
    """One layer of GATv2 (arXiv:2105.14491, eq. 7) on a graph in which every node sees every one, itself included.

    What a node hears of another depends on what both say in this row, and on `edges (H, M, M)`, how much each modality hears of
    each in general.
    """

    decayed_parameters = ("score",)  # a vector of each head that multiplies what goes in

    def __init__(self, modalities: int, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.hear, self.say = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.score = nn.Parameter(torch.empty(heads, dim // heads).normal_(std=(dim // heads) ** -0.5))
        self.edges = nn.Parameter(torch.zeros(heads, modalities, modalities))

    def forward(self, nodes: Tensor, there: Tensor) -> Tensor:
        """Return `nodes (B, M, D)` after each heard those that are `there (B, M)`."""
        normed = self.norm(nodes)
        hears, says = (layer(normed).unflatten(-1, (self.heads, -1)) for layer in (self.hear, self.say))
        pairs = F.leaky_relu(hears[:, :, None] + says[:, None], 0.2)
        scores = (pairs * self.score).sum(-1).permute(0, 3, 1, 2) + self.edges
        heard = shares(scores, there[:, None, None]).to(says.dtype) @ says.transpose(1, 2)
        return nodes + F.elu(heard.transpose(1, 2).flatten(2))


class GraphFusion(nn.Module):
    """`depth` rounds of messages between the projected poolings; pooled is the mean node."""

    reads_pooled = True
    adapter_targets = r"project\.\w+|layers\.\d+\.(hear|say)"

    def __init__(self, dims: Mapping[str, int], dim: PositiveInt = 192, heads: PositiveInt = 3, depth: PositiveInt = 2):
        super().__init__()
        check_heads(dim, heads)
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        # A node alone has nobody to hear.
        rounds = depth if len(dims) > 1 else 0
        self.layers = nn.ModuleList(Messages(len(dims), dim, heads) for _ in range(rounds))
        self.norm = nn.LayerNorm(dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; a missing modality is heard by none, nor in the mean. Tokens are the nodes (B, M, D)."""
        nodes, there = projected(self.project, encoded)
        for layer in self.layers:
            nodes = layer(nodes, there)
        nodes = self.norm(nodes)
        return Encoded(nodes, masked_mean(nodes, there), there)
