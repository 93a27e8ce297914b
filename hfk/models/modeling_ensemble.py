"""`MultiHeadEnsemble`: several multi-head models that vote, as one model in one checkpoint.

Each head's probabilities are averaged over the members, and the average is handed on as logits, so that everything
behind a model takes an ensemble for one. A member that can't read a row, for it reads images only or its cleaning
leaves nothing of the text, abstains, and the others share its weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .configuration_ensemble import MultiHeadEnsembleConfig
from .configuration_multihead import HeadConfig
from .heads import total_loss
from .modeling_multihead import MultiHeadForClassification, MultiHeadOutput
from .named_encoders import NamedEncoders
from .processing_ensemble import READS, input_prefix


class MultiHeadEnsemble(NamedEncoders, PreTrainedModel):
    """Several `MultiHeadForClassification` that vote.

    Args:
        config: the configuration, with at least one member.
        members: the members, if they are at hand already; built from the configuration by default.

    Example:
        >>> ensemble = MultiHeadEnsemble.from_members([one, two])  # doctest: +SKIP
        >>> ensemble.predict(**processor(text=["코스피 사상 최고"]))  # doctest: +SKIP
    """

    config_class = MultiHeadEnsembleConfig
    base_model_prefix = "ensemble"
    main_input_name = "input_ids"
    accepts_loss_kwargs = False  # else the Trainer would read so out of `forward`'s **inputs
    _no_split_modules = ["MultiHeadForClassification"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(
        self, config: MultiHeadEnsembleConfig, members: Sequence[MultiHeadForClassification] | None = None
    ) -> None:
        super().__init__(config)
        if not config.members:
            raise ValueError("the ensemble has no members.")
        if members is None:
            for member in config.members if config.dtype is not None else ():
                for part in (member, member.text_config, member.vision_config):
                    if part is not None:  # an encoder is built in the dtype of its own configuration
                        part.dtype = config.dtype
            members = [MultiHeadForClassification(member) for member in config.members]
        self.members = nn.ModuleList(members)
        if config.text_config is None:
            self.main_input_name = "pixel_values"
        self.post_init()

    @classmethod
    def from_members(
        cls,
        members: Sequence[MultiHeadForClassification],
        readers: list[int] | None = None,
        weights: dict[str, list[float]] | None = None,
    ) -> MultiHeadEnsemble:
        """Put models of the same heads and dtype together, in evaluation mode; they are taken as they are, not copied.

        `readers`, from `MultiHeadEnsembleProcessor.join`, and `weights` are those of `MultiHeadEnsembleConfig`. Heads
        that differ are a ValueError.
        """
        config = MultiHeadEnsembleConfig([member.config for member in members], readers, weights)
        config.dtype = members[0].dtype
        return cls(config, members).eval()

    def parts(self) -> dict[str, MultiHeadForClassification]:
        """The members, by the prefix of their weights."""
        return {f"members.{number}.": member for number, member in enumerate(self.members)}

    def get_input_embeddings(self) -> nn.Module:
        """Return the first member's."""
        return self.members[0].get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:  # noqa: D102
        self.members[0].set_input_embeddings(value)

    def forward(
        self, labels: dict[str, Tensor] | None = None, return_dict: bool | None = None, **inputs: Tensor
    ) -> MultiHeadOutput | tuple:
        """Classify one batch.

        Args:
            labels: head name → labels as in `Problem.loss`; the loss is that of the averaged answer.
            return_dict: False returns a tuple without the None fields.
            **inputs: what `MultiHeadEnsembleProcessor` returns: for each of its processors the inputs of
                `MultiHeadForClassification.forward`, and `reads`, bool `(batch,)`, False in rows that it can't read.

        Returns:
            `MultiHeadOutput`; the embedding is the members' embeddings side by side, 0 where one abstained.
        """
        given = [self._inputs_of(reader, inputs) for reader in self.config.readers]
        first = next((value for own, _ in given for value in own.values()), None)
        if first is None:
            raise ValueError("there is no input: give input_ids, pixel_values or both.")
        rows, device = first.shape[0], first.device
        reads = torch.stack(
            [
                said.bool() if own and said is not None else torch.full((rows,), bool(own), device=device)
                for own, said in given
            ],
            dim=1,
        )
        if not (torch.compiler.is_compiling() or reads.any(1).all()):
            row = int((~reads.any(1)).nonzero()[0])
            raise ValueError(f"row {row} of the batch has neither text nor image that any member can read.")
        outputs = [member(**own) if own else None for member, (own, _) in zip(self.members, given, strict=True)]
        logits = {head.name: self._vote(place, head, outputs, reads) for place, head in enumerate(self.config.heads)}
        embeddings = [
            first.new_zeros((rows, member.config.embedding_size), dtype=self.dtype)
            if output is None
            else output.embedding * reads[:, number, None].to(output.embedding.dtype)
            for number, (output, member) in enumerate(zip(outputs, self.members, strict=True))
        ]
        loss, losses = total_loss(logits, labels, self.config.heads) if labels is not None else (None, None)
        output = MultiHeadOutput(loss=loss, losses=losses, logits=logits, embedding=torch.cat(embeddings, -1))
        return output if return_dict is not False else output.to_tuple()

    def _inputs_of(self, reader: int, inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Pick what one processor prepared: the tensors under their usual names (none if it read no row), and `reads`.

        `*_present` masks alone are no input: they come along in batches without text and without picture, too.
        """
        prefix = input_prefix(reader)
        own = {
            name.removeprefix(prefix): value
            for name, value in inputs.items()
            if value is not None and (name.startswith(prefix) if reader else not name.startswith("processor"))
        }
        reads = own.pop(READS, None)
        return (own if "input_ids" in own or "pixel_values" in own else {}), reads

    def _vote(self, place: int, head: HeadConfig, outputs: list[MultiHeadOutput | None], reads: Tensor) -> Tensor:
        """Average one head over the members that could read each row."""
        weights = torch.tensor(self.config.member_weights(head.name), device=reads.device) * reads
        # Where only members of weight 0 can read a row, they are better than nothing.
        weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, reads.float())
        absent = weights.new_zeros(reads.shape[0], head.num_outputs)
        logits = [absent if output is None else output.logits[head.name] for output in outputs]
        return head.rules.vote([config.heads[place] for config in self.config.members], logits, weights)

    predict = MultiHeadForClassification.predict


MultiHeadEnsemble.register_for_auto_class("AutoModel")
