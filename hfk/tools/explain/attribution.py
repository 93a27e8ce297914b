"""Why a checkpoint answers as it does: how much each word and each patch of the picture moved one label's logit.

Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) along one path for text and picture together, from a
row that says nothing (padding for every word, a picture of one color) to the row as it is. So the parts of words and
patches add up to the difference of the two logits, and may be compared with each other. Where the path meets the text
is the output of the encoder's input embeddings, put there by a hook: any encoder that looks its tokens up in such a
module will do. For others, and for ensembles, words are left out one at a time. Drawing is in page.py.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ...inference.predictor import Predictor
from ...models.configuration_multihead import HeadConfig
from ...models.decoding import decide, probabilities
from ...models.processing_multihead import MultiHeadProcessor

ROWS_AT_ONCE = 8
"""Points of the path in one pass forward and back: what gradients keep in memory is for that many rows."""
SECTIONS = 16
"""Into how many the path is divided to find out where the target changes."""
MOST_CELLS, FEWEST_CELLS = 16, 7
"""Cells a side of the picture's map: the encoder's own patches, if they are so many, else 7 or 8."""


@dataclass
class Word:
    """A word of the text as the model read it, which stands between two spaces at `Explanation.text[start:end]`.

    `score` is what it adds to the logit; None where the text was cut before it, so that the model did not read it.
    """

    word: str
    start: int
    end: int
    score: float | None


@dataclass
class Explanation:
    """What moved one label of one head.

    Args:
        head: the head's name.
        label: the label; None for a regression head.
        probability: of the label; None for a regression head.
        value: the label's logit, of a `single_label` head less the mean of its logits; of a regression head the answer
            in its own unit. The scores are in the same unit.
        baseline: the same for the row that says nothing; with `occlusion` and a picture, for the text alone.
        error: `value - baseline` less the sum of all scores: what integration with so few steps has missed. None with
            `occlusion`, whose scores need not add up.
        text_method: `integrated gradients` or `occlusion`; None without text.
        text: the text as the model read it, after cleaning; None without text.
        words: its words.
        patches: what each cell of the picture adds, rows from the top; None without a picture.
        picture: the part of the picture that the patches lie on; None without one.
    """

    head: str
    label: str | None
    probability: float | None
    value: float
    baseline: float
    error: float | None
    text_method: str | None = None
    text: str | None = None
    words: list[Word] = field(default_factory=list)
    patches: list[list[float]] | None = None
    picture: Image.Image | None = None

    @property
    def by_text(self) -> float | None:
        """What all words add; None without text."""
        return sum(word.score or 0.0 for word in self.words) if self.words else None

    @property
    def by_image(self) -> float | None:
        """What the whole picture adds; None without one."""
        return sum(map(sum, self.patches)) if self.patches is not None else None

    def to_dict(self) -> dict[str, Any]:
        """All but the picture, ready for JSON."""
        result = {name: value for name, value in vars(self).items() if name != "picture"}
        words = [asdict(word) for word in self.words]
        return result | {"words": words, "by_text": self.by_text, "by_image": self.by_image}


def explain(
    predictor: Predictor,
    text: str | None = None,
    image: Any = None,
    head: str | None = None,
    label: str | None = None,
    steps: int = 64,
) -> Explanation:
    """Say how much each word and each patch of the picture moved one label.

    Args:
        predictor: the checkpoint.
        text: the text, or None.
        image: the picture, as for the pipeline, or None.
        head: name of the head; the last one, which is the finest of a hierarchy, by default.
        label: the label to explain; by default the one chosen, or of a `multi_label` head the likeliest.
        steps: points of the path at which gradients are taken, at first; they are doubled, twice at most, while `error`
            is more than a tenth of what there is to explain. Time grows in proportion.

    Raises:
        ValueError: if there is nothing to read, `image` can't be used, for an unknown head or label, `steps` outside 1
            to 4096, or an ensemble whose members read their input in different ways.

    Example:
        >>> why = explain(Predictor.from_pretrained("runs/ynat"), "코스피 사상 최고")  # doctest: +SKIP
        >>> max(why.words, key=lambda word: word.score).word  # doctest: +SKIP
        '코스피'
    """
    if not 1 <= steps <= 4096:
        raise ValueError(f"steps must be from 1 to 4096, not {steps}.")
    processor, model = predictor.processor, predictor.model
    if not isinstance(processor, MultiHeadProcessor):
        raise ValueError("the members of this ensemble read their input in different ways: explain one of its members.")
    names = [known.name for known in model.config.heads]
    if head is not None and head not in names:
        raise ValueError(f"no head is called {head!r}; heads: {', '.join(names)}.")
    config = model.config.heads[names.index(head or names[-1])]
    prepared = processor.prepare_row(text, image)
    if prepared[0] is not None:
        prepared = (processor.shorten(prepared[0]), prepared[1])
    place, probability = _find_label(config, model.config.heads, predictor.logits([prepared]), label)
    target = _Target(predictor, config, place)
    tensors = {key: value.to(model.device) for key, value in processor.to_tensors([prepared]).items()}

    words = [Word(m[0], m.start(), m.end(), None) for m in re.finditer(r"\S+", prepared[0] or "")]
    tokens = _word_of_token(processor, prepared[0], words, tensors) if words else None
    gradients = _integrate(target, tensors, tokens, steps)
    baseline, left_out = gradients.baseline, bool(words) and gradients.tokens is None
    if left_out:
        empty = _leave_out(target, prepared, words, gradients.value)
        baseline = empty if baseline is None else baseline
    elif words:
        for word, score in zip(tokens.tolist(), gradients.tokens.tolist(), strict=True):
            if word >= 0:
                words[word].score = (words[word].score or 0.0) + score
    patches = picture = None
    if gradients.pixels is not None:
        patches = _cells(gradients.pixels, getattr(model.config, "vision_config", None)).tolist()
        picture = _as_seen(processor.image_processor, prepared[1], tensors)
    name = config.labels[place] if config.rules.has_labels else None
    method = ("occlusion" if left_out else "integrated gradients") if words else None
    why = Explanation(
        config.name, name, probability, gradients.value, baseline, None, method, prepared[0], words, patches, picture
    )
    if not left_out:
        why.error = why.value - why.baseline - (why.by_text or 0.0) - (why.by_image or 0.0)
    return why


def _find_label(
    head: HeadConfig, heads: list[HeadConfig], logits: dict[str, Tensor], label: str | None
) -> tuple[int, float | None]:
    if not head.rules.has_labels:
        if label is not None:
            raise ValueError(f"head {head.name!r} gives a number and has no labels to choose from.")
        return 0, None
    if label is not None and label not in head.labels:
        raise ValueError(f"head {head.name!r} has no label {label!r}; see `labels` in the checkpoint's config.json.")
    probs = probabilities(logits, heads)
    likeliest = decide(probs, heads)[head.name][0] if head.rules.exclusive else probs[head.name][0].argmax()
    place = int(likeliest) if label is None else head.labels.index(label)
    return place, float(probs[head.name][0, place])


@dataclass
class _Target:
    """One output of one head, as a function of the model's tensors."""

    predictor: Predictor
    head: HeadConfig
    place: int

    def __call__(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return `(batch,)`: see `Explanation.value`."""
        logits = self.predictor.model(**tensors).logits[self.head.name].float()
        if not self.head.rules.has_labels:
            logits = self.head.rules.scaled(logits)
        if self.head.rules.exclusive:
            # What raises all logits alike changes no probability, so it is no reason for the answer.
            logits = logits - logits.mean(-1, keepdim=True)
        return logits[:, self.place]


class _Gradients(NamedTuple):
    value: float
    baseline: float | None
    tokens: Tensor | None  # (tokens,)
    pixels: Tensor | None  # (height, width)


def _integrate(target: _Target, tensors: dict[str, Tensor], tokens: Tensor | None, steps: int) -> _Gradients:
    """Integrate the target's gradient along the path; without `tokens`, the number of each one's word, text stays."""
    ends: dict[str, tuple[Tensor, Tensor]] = {}
    module = _input_embeddings(target.predictor.model) if tokens is not None else None
    if module is not None:
        unknown = torch.full_like(tensors["input_ids"], _unknown_id(target.predictor.processor.tokenizer))
        ids = torch.where(tokens[None].to(unknown.device) >= 0, unknown, tensors["input_ids"])
        with torch.no_grad(), _hook(module, None) as seen:
            target(tensors)
            target(tensors | {"input_ids": ids})
        # Else it is not where this encoder looks its tokens up one by one, and the text stays as it is.
        if len(seen) == 2 and seen[0].dim() == 3 and seen[0].shape[1] == ids.shape[1]:
            ends["tokens"] = seen[1], seen[0]
    if "pixel_values" in tensors:
        # One color, the picture's own mean: less unlike any picture than black or gray, so that gradients on the way
        # are less noisy, and leaving out the cells found by it changed answers more (see docs/guide.md).
        pixels = tensors["pixel_values"]
        ends["pixels"] = pixels.mean((2, 3), keepdim=True).expand_as(pixels), pixels
    if not ends:
        with torch.no_grad():
            return _Gradients(float(target(tensors)), None, None, None)

    def at(share: Tensor, gradient: bool) -> tuple[Tensor, list[Tensor]]:
        """The target at points of the path, `(points,)`, and its gradient at the ends' tensors."""
        batch = {name: values.expand(len(share), *values.shape[1:]) for name, values in tensors.items()}
        on_path = {}
        for kind, (low, high) in ends.items():
            far = share.view(-1, *[1] * (low.dim() - 1))
            on_path[kind] = torch.lerp(low.float(), high.float(), far).to(low.dtype).requires_grad_(gradient)
        if "pixels" in on_path:
            batch["pixel_values"] = on_path["pixels"]
        # Recurrent layers refuse to run backward in evaluation mode under cuDNN; without it they do.
        with torch.set_grad_enabled(gradient), torch.backends.cudnn.flags(enabled=False):
            with _hook(module, on_path.get("tokens")):
                values = target(batch)
            gradients = torch.autograd.grad(values.sum(), list(on_path.values())) if gradient else []
        return values.detach(), list(gradients)

    device = target.predictor.model.device
    corners = torch.linspace(0, 1, SECTIONS + 1, device=device)
    heights = torch.cat([at(part, False)[0] for part in corners.split(ROWS_AT_ONCE)]).cpu().numpy()
    change = float(heights[-1] - heights[0])
    for doubled in (1, 2, 4):
        totals = {kind: torch.zeros_like(end[0], dtype=torch.float32) for kind, (_, end) in ends.items()}
        points, weights = spread_points(heights, steps * doubled)
        points, weights = (torch.tensor(v, dtype=torch.float32, device=device) for v in (points, weights))
        for share, weight in zip(points.split(ROWS_AT_ONCE), weights.split(ROWS_AT_ONCE), strict=True):
            for total, gradient in zip(totals.values(), at(share, True)[1], strict=True):
                total += torch.einsum("n,n...->...", weight, gradient.float())
        parts = {kind: totals[kind] * (high - low).float()[0] for kind, (low, high) in ends.items()}
        if abs(sum(float(part.sum()) for part in parts.values()) - change) <= 0.1 * abs(change) + 0.02:
            break
    tokens = parts["tokens"].sum(-1).cpu() if "tokens" in parts else None
    pixels = parts["pixels"].sum(0).cpu() if "pixels" in parts else None
    return _Gradients(float(heights[-1]), float(heights[0]), tokens, pixels)


def spread_points(heights: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Where on the path to take gradients, and with which weights: dense where the target changes fast.

    An answer is often there after a tenth of the way and then stays: even steps would mostly measure that nothing
    happens (Bhat and Raychowdhury 2023, arXiv:2302.11107). So half of the points are spread by how much the target
    changes between `heights`, at the ends of the path's sections; in a section they are those of Gauss and Legendre.
    """
    change = np.abs(np.diff(heights))
    sections = len(change)
    share = 0.5 / sections + 0.5 * (change / change.sum() if change.sum() else np.full(sections, 1 / sections))
    counts = np.maximum(1, np.round(share * steps).astype(int))
    points, weights = [], []
    for section, count in enumerate(counts):
        inside, weight = np.polynomial.legendre.leggauss(count)
        points.append((section + (inside + 1) / 2) / sections)
        weights.append(weight / 2 / sections)
    return np.concatenate(points), np.concatenate(weights)


@contextmanager
def _hook(module: nn.Module | None, replacement: Tensor | None) -> Iterator[list[Tensor]]:
    """Collect what a module puts out, and put something else out instead, in this thread alone.

    A server asks the same model in other threads meanwhile, which must not notice.
    """
    seen: list[Tensor] = []
    own = threading.get_ident()

    def watch(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if threading.get_ident() != own or not isinstance(output, Tensor):
            return None
        seen.append(output.detach())
        return replacement

    handle = module.register_forward_hook(watch) if module is not None else None
    try:
        yield seen
    finally:
        if handle is not None:
            handle.remove()


def _input_embeddings(model: nn.Module) -> nn.Module | None:
    try:
        return model.text_encoder.get_input_embeddings()
    except (NotImplementedError, AttributeError):  # an ensemble, or transformers has no rule for where this keeps them
        return None


def _unknown_id(tokenizer: Any) -> int:
    """The token that says least: of padding, where there is one; see docs/guide.md."""
    known = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id)
    return next((number for number in known if number is not None), 0)


def _word_of_token(
    processor: MultiHeadProcessor, text: str, words: list[Word], tensors: dict[str, Tensor]
) -> Tensor | None:
    """Number of each token's word, -1 for special tokens and the prefix; None if the tokenizer does not tell places."""
    if not getattr(processor.tokenizer, "is_fast", False):
        return None
    encoded = processor.tokenizer(
        processor.text_prefix + text, truncation=True, max_length=processor.max_length, return_offsets_mapping=True
    )
    if encoded["input_ids"] != tensors["input_ids"][0].tolist():
        return None  # the processor does more than is done here
    ends, before = [word.end for word in words], len(processor.text_prefix)
    numbers = []
    for start, end in encoded["offset_mapping"]:
        start, end = max(start - before, 0), end - before
        # A piece may begin with the space before its word, or be that space alone.
        numbers.append(min(bisect_right(ends, start), len(ends) - 1) if end > start else -1)
    return torch.tensor(numbers)


def _leave_out(target: _Target, prepared: tuple[str | None, Any], words: list[Word], whole: float) -> float:
    """Score each word by how much the target falls when an unknown word stands there; the target with none but such."""
    text, picture = prepared
    processor, device = target.predictor.processor, target.predictor.model.device
    stand_in = processor.tokenizer.mask_token or processor.tokenizer.unk_token or ""
    rows = [(text[: word.start] + stand_in + text[word.end :] or " ", picture) for word in words]
    rows.append((" ".join([stand_in] * len(words)), picture))
    values: list[float] = []
    with torch.inference_mode():
        for first in range(0, len(rows), ROWS_AT_ONCE):
            batch = processor.to_tensors(rows[first : first + ROWS_AT_ONCE])
            values += target({name: tensor.to(device) for name, tensor in batch.items()}).tolist()
    for word, value in zip(words, values, strict=False):
        word.score = whole - value
    return values[-1]


def _cells(pixels: Tensor, vision_config: Any) -> Tensor:
    """Sum `(height, width)` over cells: the encoder's patches where it has some of a useful size."""
    patch = getattr(vision_config, "patch_size", None)
    for dim in (0, 1):
        size = pixels.shape[dim]
        count = size // patch if isinstance(patch, int) and patch > 0 and size % patch == 0 else 0
        if not min(FEWEST_CELLS, size) <= count <= MOST_CELLS:
            count = min(8 if size % 8 == 0 else 7, size)
        index = torch.arange(size) * count // size
        shape = list(pixels.shape)
        shape[dim] = count
        pixels = torch.zeros(shape).index_add_(dim, index, pixels)
    return pixels


def _as_seen(image_processor: Any, picture: Image.Image, tensors: dict[str, Tensor]) -> Image.Image:
    """The picture itself if it was only resized, else what was cut out of it, from the model's own pixels."""
    if not any(getattr(image_processor, name, None) for name in ("do_center_crop", "crop_pct", "do_pad")):
        return picture
    pixels = tensors["pixel_values"][0].float().cpu()
    if getattr(image_processor, "do_normalize", False):
        stats = image_processor.image_mean, image_processor.image_std
        mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in stats)
        pixels = pixels * deviation + mean
    scale = 1.0 if getattr(image_processor, "do_rescale", True) else 1 / 255
    array = (pixels * scale * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array))
