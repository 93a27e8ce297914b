"""Label hierarchies: the best consistent choices through several heads, and probabilities summed up the tree.

Heads with parents form a forest, and decoding is max-product on it (Viterbi on a tree): scores flow from the finest
heads to the roots, choices flow back, one scatter and one gather a level. The product is of all heads' probabilities,
not of the finest's alone: a coarse head has more rows a label to learn from, and is right more often.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Parents = dict[str, tuple[str, list[int]]]
"""A hierarchy: head name → its parent head's name, and `parent_of`: the index of the parent label of each label."""


def head_parents(heads: Iterable[Any]) -> Parents:
    """The hierarchy of heads."""
    return {head.name: (head.parent, head.parent_of) for head in heads if head.parent is not None}


def best_path(log_probabilities: dict[str, Tensor], parents: Parents) -> dict[str, Tensor]:
    """Pick, for every row, the labels that agree with the hierarchy and have the highest joint log-probability.

    Of head name → `(batch, labels)`, natural logarithms, head name → int64 `(batch,)`. Heads that `parents` does not
    list are roots, and one may have several children.

    Example:
        >>> best_path({"a": torch.tensor([[-0.1, -3.0]]), "b": torch.tensor([[-2.0, -0.2]])}, {"b": ("a", [0, 1])})
        {'a': tensor([0]), 'b': tensor([0])}
    """
    scores, _ = _best_below(log_probabilities, parents)
    chosen: dict[str, Tensor] = {}
    for name in coarse_to_fine(log_probabilities, parents):
        values = scores[name]
        if name in parents:
            parent, parent_of = parents[name]
            allowed = torch.tensor(parent_of, device=values.device)[None, :] == chosen[parent][:, None]
            values = values.masked_fill(~allowed, -torch.inf)
        chosen[name] = values.argmax(-1)
    return {name: chosen[name] for name in log_probabilities}


def top_paths(
    log_probabilities: dict[str, Tensor], parents: Parents, k: int
) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """Rank the paths from the roots to the labels of each finest head; the first one is what `best_path` chooses.

    A path's score is the product of its heads' probabilities, as a share of the sum over all paths to that head. Where
    heads branch, each path is scored with the best choice in the other branches. Returns finest head → the scores of
    the best `k`, `(batch, k)`, highest first, and head name → `(batch, k)`, the labels on the way, from the root on.
    """
    scores, messages = _best_below(log_probabilities, parents)
    ranked = {}
    for leaf in leaves(parents):
        total, way = scores[leaf], {leaf: torch.arange(scores[leaf].shape[-1], device=scores[leaf].device)}
        name = leaf
        while name in parents:
            above, parent_of = parents[name]
            way[above] = torch.tensor(parent_of, device=total.device)[way[name]]
            values = log_probabilities[above].float()
            for other, (parent, _) in parents.items():
                if parent == above and other != name:
                    values = values + messages[other]
            total = total + values[:, way[above]]
            name = above
        best = total.softmax(-1).topk(min(k, total.shape[-1]))
        ranked[leaf] = best.values, {name: way[name][best.indices] for name in reversed(way)}
    return ranked


def marginals(head: str, log_probabilities: Tensor, parents: Parents, sizes: dict[str, int]) -> dict[str, Tensor]:
    """Sum one head's probabilities over the labels under each label of the heads above it, which have `sizes`.

    Returns natural logarithms. A label without any of `head`'s under it has the constant 0, which costs nothing in a
    loss.
    """
    result, name = {}, head
    index = torch.arange(log_probabilities.shape[-1], device=log_probabilities.device)
    while name in parents:
        name, parent_of = parents[name]
        index = torch.tensor(parent_of, device=index.device)[index]
        under = index[None, :] == torch.arange(sizes[name], device=index.device)[:, None]
        hidden = torch.finfo(log_probabilities.dtype).min  # not -inf: where all is hidden, its slope would be NaN
        summed = log_probabilities[:, None, :].masked_fill(~under, hidden).logsumexp(-1)
        result[name] = torch.where(under.any(-1), summed, 0.0)
    return result


def leaves(parents: Parents) -> list[str]:
    """Names of the heads that have a parent and are nobody's parent."""
    above = {parent for parent, _ in parents.values()}
    return [name for name in parents if name not in above]


def _best_below(log_probabilities: dict[str, Tensor], parents: Parents) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The upward pass: each label's score with the best choice below it, and what each head sent to its parent."""
    scores = {name: values.float() for name, values in log_probabilities.items()}
    messages = {}
    for name in reversed(coarse_to_fine(log_probabilities, parents)):
        if name not in parents:
            continue
        parent, parent_of = parents[name]
        index = torch.tensor(parent_of, device=scores[name].device)
        # A parent label without any child label keeps -inf: it lies on no complete path.
        below = torch.full_like(scores[parent], -torch.inf)
        messages[name] = below.scatter_reduce(1, index.expand_as(scores[name]), scores[name], "amax")
        scores[parent] = scores[parent] + messages[name]
    return scores, messages


def coarse_to_fine(names: Iterable[str], parents: Parents) -> list[str]:
    """Sort heads so that every head comes after its parent."""

    def depth(name: str) -> int:
        return 0 if name not in parents else 1 + depth(parents[name][0])

    return sorted(names, key=depth)
