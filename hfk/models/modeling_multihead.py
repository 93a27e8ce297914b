"""`MultiHeadForClassification`: any transformers text and/or vision encoder, one fusion, several heads.

How sequences become one vector is in fusion.py, heads and losses in heads.py, answers in decoding.py. `forward` takes
no **kwargs on purpose: the Trainer would take them as a sign that the loss is normalized by `num_items_in_batch`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .checked_files import check_encoder, no_larger
from .configuration_multihead import HeadConfig, MultiHeadConfig, encoder_hidden_size, validate_heads
from .decoding import decide, probabilities
from .encoders import ENCODERS
from .fusion import Pooling, Standardization, TokensFusion, VectorFusion, drop_modalities
from .heads import HIERARCHY_LOSSES, Heads, total_loss
from .named_encoders import Adapters, NamedEncoders, fetch
from .pipeline_multihead import MultiHeadClassificationPipeline  # noqa: F401  (travels with every checkpoint)
from .problems import HeadLoss
from .shared import check_choice, check_range


@dataclass
class MultiHeadOutput(ModelOutput):
    """What `MultiHeadForClassification` returns.

    Args:
        loss: scalar, the weighted sum of the heads' losses; None without labels.
        losses: head name → scalar, unweighted; None without labels.
        logits: head name → `(batch, labels)`, `(batch, 1)` for regression.
        embedding: `(batch, embedding_size)`, what the heads read.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    logits: dict[str, Tensor] | None = None
    embedding: Tensor | None = None


class MultiHeadForClassification(NamedEncoders, PreTrainedModel):
    """A multi-head classifier over text, images, or both.

    Args:
        config: the model's configuration; ValueError unless it has an encoder and a head.
        text_encoder: the text encoder, if it is at hand already; built from the configuration by default.
        vision_encoder: likewise the vision encoder.
    """

    config_class = MultiHeadConfig
    base_model_prefix = "multi_head"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TransformerEncoderLayer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: MultiHeadConfig,
        text_encoder: PreTrainedModel | None = None,
        vision_encoder: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        validate_heads(config.heads)
        if config.text_config is None and config.vision_config is None:
            raise ValueError("the model has no encoder: give text_config, vision_config or both.")
        named = {side: nn.Identity() for side in config.encoders or ()}  # until `from_pretrained` fetches them
        self.text_encoder = text_encoder or named.get("text") or _build_encoder(config.text_config)
        self.vision_encoder = vision_encoder or named.get("vision") or _build_encoder(config.vision_config)
        self.adapters = Adapters(config.adapters) if config.adapters else None
        if config.vision_config is not None and config.vision_config.model_type == "siglip2_vision_model":
            raise ValueError(
                "a NaFlex encoder reads any number of patches, which is not supported; name one of a fixed size, such "
                "as google/siglip2-base-patch16-224."
            )
        if config.vision_config is None:
            self.fusion = Pooling(config.text_pooling, encoder_hidden_size(config.text_config))
        elif config.text_config is None:
            self.fusion = Pooling(config.image_pooling, encoder_hidden_size(config.vision_config))
            self.main_input_name = "pixel_values"
        else:
            self.fusion = TokensFusion(config) if config.fusion == "tokens" else VectorFusion(config)
        self.heads = Heads(config)
        self.set_training()
        self.post_init()

    def set_training(
        self,
        head_losses: dict[str, HeadLoss] | None = None,
        modality_dropout: float = 0.0,
        modality_loss: float = 0.0,
        hierarchy_loss: str = "none",
    ) -> None:
        """Say how the model is trained: attributes of the same names, which change no answer and are not saved.

        Args:
            head_losses: head name → how this head is trained; neutral by default.
            modality_dropout: in training, the probability that a row which has both text and image loses one of them.
            modality_loss: in training, what the loss of the text alone and that of the image alone weigh beside the
                loss of both, in rows that have both; else the side that learns faster leaves the other little to learn
                (gradient blending: Wang et al. 2020, arXiv:1905.12681).
            hierarchy_loss: `marginal` adds to the loss of every head that has finer ones below it the cross-entropy of
                the finest one's probabilities, summed over the labels under each of its own: rows whose finest label is
                not known then train the finest head too. `none` trains every head by its own logits alone.
        """
        heads = self.config.heads
        for name in head_losses or {}:
            self.config.head(name).rules.validate_loss(head_losses[name])
        check_choice("hierarchy_loss", hierarchy_loss, HIERARCHY_LOSSES)
        if hierarchy_loss == "marginal" and not any(head.parent for head in heads):
            raise ValueError("hierarchy_loss marginal needs a hierarchy, and no head has a `parent`.")
        self.head_losses = {head.name: HeadLoss() for head in heads} | (head_losses or {})
        self.modality_dropout, self.modality_loss, self.hierarchy_loss = modality_dropout, modality_loss, hierarchy_loss
        check_range(self, "modality_dropout")
        check_range(self, "modality_loss", high=math.inf)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if hasattr(module, "initializer_std"):
            init.normal_(module.weight, std=module.initializer_std)
            init.zeros_(module.bias)
        elif isinstance(module, Standardization):
            init.zeros_(module.mean)
            init.ones_(module.scale)
        else:
            super()._init_weights(module)

    @classmethod
    def from_encoders(
        cls,
        text: str | PreTrainedModel | None = None,
        vision: str | PreTrainedModel | None = None,
        heads: list[HeadConfig | dict] | None = None,
        text_kwargs: dict[str, Any] | None = None,
        vision_kwargs: dict[str, Any] | None = None,
        **config_kwargs: Any,
    ) -> MultiHeadForClassification:
        """Build a classifier with new heads on pretrained encoders, in evaluation mode.

        Args:
            text: Hub id or folder of the text encoder, or the encoder itself; None for an image-only model.
            vision: Hub id or folder of the vision encoder, or the encoder itself; None for a text-only model. Of a
                text-image model such as CLIP, the vision tower is taken.
            heads: the heads, coarse to fine.
            text_kwargs: passed to the text encoder's `from_pretrained`, for example `revision` or `dtype`.
            vision_kwargs: the same for the vision encoder.
            **config_kwargs: options of `MultiHeadConfig`, for example `fusion="gated"`.

        Raises:
            ValueError: if neither encoder is given, or for a wrong option.
            OSError: if an encoder can't be found.

        Example:
            >>> model = MultiHeadForClassification.from_encoders(
            ...     text="klue/roberta-base", heads=[HeadConfig("cat1", ["자연", "음식"])])  # doctest: +SKIP
        """
        text_encoder = _load_encoder(text, "text_config", text_kwargs)
        vision_encoder = _load_encoder(vision, "vision_config", vision_kwargs)
        config = MultiHeadConfig(
            text_config=text_encoder.config if text_encoder is not None else None,
            vision_config=vision_encoder.config if vision_encoder is not None else None,
            heads=heads,
            **config_kwargs,
        )
        return cls(config, text_encoder, vision_encoder).eval()

    @torch.no_grad()
    def fetch_encoders(self, token: str | bool | None = None) -> None:
        """Take the encoders that the configuration names, which others may share, with what adapters change in them.

        ValueError if one is not there, or is another.
        """
        dtype, device = self.dtype, self.device
        for side, named in (self.config.encoders or {}).items():
            part = f"{side}_config"
            own = getattr(self.config, part)

            def load(source: str, config: PreTrainedConfig = own, part: str = part, **options: Any) -> nn.Module:
                return _load_encoder(source, part, options, config)

            setattr(self, f"{side}_encoder", fetch(named, load, dtype, token).to(device))
        for name, (rows, _, columns) in (self.config.adapters or {}).items():
            if self.get_parameter(name).shape != (rows, columns):  # a product may be far larger than its factors
                raise ValueError(f"the adapter of {name} is {rows} × {columns}, which its weight is not.")
        for name, change in self.adapters.changes().items() if self.adapters is not None else ():
            weight = self.get_parameter(name)
            weight.data = weight + change.to(weight)

    def get_input_embeddings(self) -> nn.Module:
        """Return the text encoder's token embeddings, or the vision encoder's patch embeddings without one."""
        return (self.text_encoder or self.vision_encoder).get_input_embeddings()

    def enable_input_require_grads(self) -> None:
        """As in transformers, also for embeddings that return a tuple, as Swin's do."""

        def require_grad(module: nn.Module, arguments: Any, output: Any) -> None:
            (output[0] if isinstance(output, tuple) else output).requires_grad_(True)

        self._require_grads_hooks = []
        for encoder in filter(None, (self.text_encoder, self.vision_encoder)):
            with suppress(NotImplementedError):  # convolutions have no embeddings, and need no gradient there
                embeddings = encoder.get_input_embeddings()
                self._require_grads_hooks.append(embeddings.register_forward_hook(require_grad))

    def set_input_embeddings(self, value: nn.Module) -> None:  # noqa: D102
        (self.text_encoder or self.vision_encoder).set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        text_present: Tensor | None = None,
        image_present: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: dict[str, Tensor] | None = None,
        return_dict: bool | None = None,
    ) -> MultiHeadOutput | tuple:
        """Classify one batch.

        Args:
            input_ids: int64 `(batch, tokens)`; None if no row has text.
            attention_mask: `(batch, tokens)`, 1 where a token counts.
            pixel_values: `(batch, channels, height, width)`; None if no row has an image.
            text_present: bool `(batch,)`, False in rows without text; all True by default when `input_ids` is given.
            image_present: bool `(batch,)`, False in rows without an image; likewise.
            token_type_ids: int64 `(batch, tokens)`, for encoders that use them.
            labels: head name → labels as in `Problem.loss`; any heads may be left out.
            return_dict: False returns a tuple without the None fields.
        """
        if input_ids is None and pixel_values is None:
            raise ValueError("there is no input: give input_ids, pixel_values or both.")
        if input_ids is not None and self.text_encoder is None:
            raise ValueError("input_ids were given, but this model has no text encoder.")
        if pixel_values is not None and self.vision_encoder is None:
            raise ValueError("pixel_values were given, but this model has no vision encoder.")
        text_present, image_present = self._present(input_ids, pixel_values, text_present, image_present)
        if input_ids is not None and attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        text_tokens, image_tokens = self._encode(input_ids, attention_mask, pixel_values, token_type_ids)
        if self.vision_encoder is None:
            views = [self.fusion(text_tokens, attention_mask)]
        elif self.text_encoder is None:
            views = [self.fusion(image_tokens)]
        else:
            if self.training and self.modality_dropout:
                text_present, image_present = drop_modalities(text_present, image_present, self.modality_dropout)
            shown = [(text_present, image_present)]
            if self.training and self.modality_loss:  # a row that has one side only shows that one again
                shown += [(text_present, image_present & ~text_present), (text_present & ~image_present, image_present)]
            views = [self.fusion((text_tokens, attention_mask, t), (image_tokens, None, i)) for t, i in shown]
        logits, *alone = [self.heads(view) for view in views]
        loss = losses = None
        if labels is not None:
            how = {"heads": self.config.heads, "hierarchy_loss": self.hierarchy_loss, "options": self.head_losses}
            loss, losses = total_loss(logits, labels, **how)
            if alone:
                others = sum(total_loss(side, labels, **how)[0] for side in alone)
                loss = (loss + self.modality_loss * others) / (1 + 2 * self.modality_loss)
        output = MultiHeadOutput(loss=loss, losses=losses, logits=logits, embedding=views[0])
        return output if return_dict is not False else output.to_tuple()

    def _present(
        self, input_ids: Tensor | None, pixel_values: Tensor | None, text: Tensor | None, image: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return which rows have text, and which an image; ValueError for one with neither."""
        given = input_ids if input_ids is not None else pixel_values
        batch, device = given.shape[0], given.device
        text = torch.full((batch,), input_ids is not None, device=device) if text is None else text.bool()
        image = torch.full((batch,), pixel_values is not None, device=device) if image is None else image.bool()
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            usable = image if self.text_encoder is None else text if self.vision_encoder is None else text | image
            if not usable.all():
                row = int((~usable).nonzero()[0])
                raise ValueError(f"row {row} of the batch has neither text nor image that this model can read.")
        return text, image

    def _encode(
        self, input_ids: Tensor | None, mask: Tensor | None, pixel_values: Tensor | None, token_type_ids: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return both sides' tokens, `(batch, tokens, size)`; None for a side that is not given."""
        text_tokens = image_tokens = None
        if input_ids is not None:
            extra = {"token_type_ids": token_type_ids} if token_type_ids is not None else {}
            text_tokens = self.text_encoder(input_ids=input_ids, attention_mask=mask, **extra).last_hidden_state
        if pixel_values is not None:
            dtype = next(self.vision_encoder.parameters()).dtype
            image_tokens = self.vision_encoder(pixel_values=pixel_values.to(dtype)).last_hidden_state
            if image_tokens.dim() == 4:  # convolutional encoders: (batch, channels, height, width)
                image_tokens = image_tokens.flatten(2).transpose(1, 2)
        return text_tokens, image_tokens

    @torch.no_grad()
    def standardize(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Measure the encoders' features on a few hundred training rows, once, before training.

        Fusion and heads then start from standardized ones, see `fusion.Standardization`. `batches` are inputs of
        `forward`.
        """
        sums: dict[str, list] = {}
        for batch in batches:
            for side, vectors in self.features(batch).items():
                new = (len(vectors), vectors.double().sum(0), vectors.double().square().sum(0))
                sums[side] = [old + more for old, more in zip(sums.get(side, (0, 0.0, 0.0)), new, strict=True)]
        for side, (count, total, squares) in sums.items():
            self.fusion_side(side).standardization.fit(count, total, squares)

    def fusion_side(self, side: str) -> nn.Module:
        """Return what the fusion does to the tokens of `text` or `image` first."""
        return self.fusion if None in (self.text_encoder, self.vision_encoder) else getattr(self.fusion, side)

    @torch.no_grad()
    def features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the encoders make of a batch, inputs of `forward`, before it is standardized.

        Side → `(vectors, size)` of the rows that have it: one vector a row, a token of `tokens` fusion.
        """
        training = self.training
        self.eval()
        batch = {name: values.to(self.device) for name, values in batch.items() if name != "labels"}
        mask, found = batch.get("attention_mask"), {}
        encoded = self._encode(batch.get("input_ids"), mask, batch.get("pixel_values"), batch.get("token_type_ids"))
        for side, tokens, token_mask in zip(("text", "image"), encoded, (mask, None), strict=True):
            if tokens is not None:
                present = batch.get(f"{side}_present", torch.ones(len(tokens), device=self.device)).bool()
                token_mask = token_mask[present] if token_mask is not None else None
                found[side] = self.fusion_side(side).features(tokens[present], token_mask)
        self.train(training)
        return found

    @torch.no_grad()
    def predict(self, threshold: float | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """Classify one batch, `inputs` of `forward` without labels, and decide: hierarchical heads always agree.

        A `multi_label` label is chosen when its probability reaches the threshold: the head's own by default, 0.5.
        """
        training = self.training
        try:
            logits = self.eval()(**inputs).logits
        finally:
            self.train(training)
        return decide(probabilities(logits, self.config.heads), self.config.heads, threshold)

    def train(self, mode: bool = True) -> MultiHeadForClassification:
        """Set training mode, except for batch norms whose weights are frozen: their statistics stay frozen too."""
        super().train(mode)
        for module in self.modules() if mode else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
                module.eval()
        return self


def _pooler_option(config: PreTrainedConfig) -> dict[str, bool]:
    """Leave out poolers that nobody reads: their unused parameters would stop distributed training."""
    model_class = MODEL_MAPPING.get(type(config), None)
    if isinstance(model_class, tuple | list):
        model_class = model_class[0]
    named = model_class is not None and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if named else {}


def _build_encoder(config: PreTrainedConfig | None) -> PreTrainedModel | None:
    if config is None:
        return None
    if config.model_type in ENCODERS:  # which transformers knows only where hfk is installed
        return ENCODERS[config.model_type]._from_config(config)
    own = _class_beside_auto(config)
    if own is not None:
        return own._from_config(config)
    return AutoModel.from_config(config, **_pooler_option(config))


def _class_beside_auto(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class of an encoder that AutoModel does not build: T5's without its decoder, SigLIP's text tower."""
    name = type(config).__name__.removesuffix("Config")
    names = {"t5": f"{name}EncoderModel", "mt5": f"{name}EncoderModel", "umt5": f"{name}EncoderModel"}
    names |= {"siglip_text_model": f"{name}Model", "siglip2_text_model": f"{name}Model"}
    return getattr(transformers, names[config.model_type]) if config.model_type in names else None


def _load_encoder(
    source: str | PreTrainedModel | None,
    part: str,
    kwargs: dict[str, Any] | None,
    config: PreTrainedConfig | None = None,
) -> PreTrainedModel | None:
    if source is None:
        return None
    if isinstance(source, nn.Module):
        if _pooler_option(source.config):
            source.pooler = None
        return source
    kwargs = {"trust_remote_code": False, "use_safetensors": True} | (kwargs or {})
    origin = {name: kwargs[name] for name in ("revision", "token", "cache_dir", "trust_remote_code") if name in kwargs}
    tensors, numbers = check_encoder(source, **kwargs)
    if config is None:
        config = AutoConfig.from_pretrained(source, **origin)
        config = getattr(config, part, None) or config  # CLIP and its kin hold both towers
    kind = ENCODERS.get(config.model_type) or _class_beside_auto(config) or AutoModel
    with no_larger(tensors, numbers, str(source)):
        return kind.from_pretrained(source, config=config, **_pooler_option(config), **kwargs)


MultiHeadForClassification.register_for_auto_class("AutoModel")
