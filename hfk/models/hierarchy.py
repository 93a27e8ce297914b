"""Label hierarchies: the best consistent choice through several heads.

A head may name a parent head; its `parent_of[i]` is the index of its label i's parent. Heads then form a forest, and
decoding is max-product on it (Viterbi on a tree): scores flow from the finest heads to the roots, choices flow back.
Each level costs one scatter and one gather over the batch, so the whole is O(labels).
"""

from __future__ import annotations

import torch
from torch import Tensor


def best_path(log_probabilities: dict[str, Tensor], parents: dict[str, tuple[str, list[int]]]) -> dict[str, Tensor]:
    """Pick, for every row, the labels that agree with the hierarchy and have the highest joint log-probability.

    Args:
        log_probabilities: head name → `(batch, labels)`, natural logarithm.
        parents: head name → (parent's name, `parent_of`: the parent label's index for each label). Heads that are not
            listed are roots. A head may have several children.

    Returns:
        head name → int64 `(batch,)`: the chosen label.

    Raises:
        ValueError: if a head and its `parent_of` differ in size.

    Example:
        >>> best_path({"a": torch.tensor([[-0.1, -3.0]]), "b": torch.tensor([[-2.0, -0.2]])}, {"b": ("a", [0, 1])})
        {'a': tensor([0]), 'b': tensor([0])}
    """
    order = _coarse_to_fine(list(log_probabilities), parents)
    scores = {name: values.float() for name, values in log_probabilities.items()}
    indices = {}
    for name in reversed(order):
        if name not in parents:
            continue
        parent, parent_of = parents[name]
        if len(parent_of) != scores[name].shape[-1]:
            raise ValueError(
                f"head {name!r} has {scores[name].shape[-1]} labels but parent_of has {len(parent_of)} entries."
            )
        index = torch.tensor(parent_of, device=scores[name].device)
        indices[name] = index
        # A parent label without any child label keeps -inf: it lies on no complete path.
        best_below = torch.full_like(scores[parent], -torch.inf)
        best_below = best_below.scatter_reduce(1, index.expand_as(scores[name]), scores[name], "amax")
        scores[parent] = scores[parent] + best_below
    chosen: dict[str, Tensor] = {}
    for name in order:
        values = scores[name]
        if name in parents:
            allowed = indices[name][None, :] == chosen[parents[name][0]][:, None]
            values = values.masked_fill(~allowed, -torch.inf)
        chosen[name] = values.argmax(-1)
    return {name: chosen[name] for name in log_probabilities}


def consistent(predictions: dict[str, Tensor], parents: dict[str, tuple[str, list[int]]]) -> Tensor:
    """Tell, for every row, whether each head's label lies under its parent head's label.

    Args:
        predictions: head name → int64 `(batch,)`.
        parents: as in `best_path`.

    Returns:
        bool `(batch,)`; all True when there is no hierarchy.
    """
    first = next(iter(predictions.values()))
    agrees = torch.ones(first.shape[0], dtype=torch.bool, device=first.device)
    for name, (parent, parent_of) in parents.items():
        above = torch.tensor(parent_of, device=first.device)[predictions[name]]
        agrees &= above == predictions[parent]
    return agrees


def _coarse_to_fine(names: list[str], parents: dict[str, tuple[str, list[int]]]) -> list[str]:
    def depth(name: str) -> int:
        return 0 if name not in parents else 1 + depth(parents[name][0])

    return sorted(names, key=depth)
