"""Loading a checkpoint, single model or ensemble, by hfk's own code: every room to the right does it here.

Nothing is taken on trust: all configurations are read as JSON before anything is loaded by them, weights are
safetensors in the checkpoint's own folder, no code comes from the Hub, and a checkpoint with missing weights is
refused, where transformers would only warn.
"""

from __future__ import annotations

from pathlib import Path

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig

from ..models.checked_files import check_configs, check_weights, one_sentence
from ..models.configuration_ensemble import MultiHeadEnsembleConfig
from ..models.configuration_multihead import MultiHeadConfig
from ..models.modeling_ensemble import MultiHeadEnsemble
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_ensemble import MultiHeadEnsembleProcessor
from ..models.processing_multihead import MultiHeadProcessor, count_positions

DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_config(
    checkpoint: str | Path, revision: str | None = None, token: str | bool | None = None
) -> MultiHeadConfig | MultiHeadEnsembleConfig:
    """Read a checkpoint's configuration, or say in one sentence why that can't be done; see `load_checkpoint`."""
    name, origin = str(checkpoint), {"revision": revision or "main", "token": token}
    if Path(name).is_dir() and not Path(name, "config.json").is_file():
        raise ValueError(f"the folder {name} has no config.json, so it is not a checkpoint.")
    try:
        check_configs(name, **origin)
        with one_sentence(f"{name}: config.json"):
            config = AutoConfig.from_pretrained(name, trust_remote_code=False, **origin)
    except (OSError, HFValidationError) as error:
        if Path(name).is_dir():
            raise
        raise ValueError(
            f"{name!r} is neither a checkpoint's folder nor a Hub checkpoint that can be read from here."
        ) from error
    if not isinstance(config, MultiHeadConfig | MultiHeadEnsembleConfig):
        raise ValueError(f"{name} is a checkpoint of type {config.model_type!r}, not a multi-head one.")
    return config


def load_checkpoint(
    checkpoint: str | Path,
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[MultiHeadForClassification | MultiHeadEnsemble, MultiHeadProcessor | MultiHeadEnsembleProcessor]:
    """Load a whole multi-head checkpoint or ensemble, or say in one sentence why that can't be done.

    Args:
        checkpoint: folder or Hub id. hfk's own code is used; none is taken from the Hub.
        dtype: of the weights, or its name; "auto" takes the checkpoint's.
        revision: commit, tag or branch of a Hub checkpoint.
        token: for private checkpoints.

    Raises:
        ValueError: if there is no such checkpoint, it is of another kind, files or weights of it are missing, or its
            configuration would run code from elsewhere (see `models.checked_files`).
    """
    name, origin = str(checkpoint), {"revision": revision or "main", "token": token}
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    config = load_config(name, revision, token)
    origin["revision"] = getattr(config, "_commit_hash", None) or origin["revision"]  # all of it from one commit
    check_weights(name, **origin)
    ensemble = isinstance(config, MultiHeadEnsembleConfig)
    model_class = MultiHeadEnsemble if ensemble else MultiHeadForClassification
    processor_class = MultiHeadEnsembleProcessor if ensemble and max(config.readers) else MultiHeadProcessor
    try:
        model, found = model_class.from_pretrained(name, config=config, dtype=dtype, output_loading_info=True, **origin)
        with one_sentence("its processor"):
            processor = processor_class.from_pretrained(name, **origin)
            _check_fit(config, processor)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".: ")[:500]
        raise ValueError(f"the checkpoint {name} is not whole: {reason}; copy it again.") from error
    if found["missing_keys"]:  # transformers would only warn, and answer with weights drawn by chance
        missing = sorted(found["missing_keys"])
        reason = f"{len(missing)} weights are missing, such as {missing[0]}"
        raise ValueError(f"the checkpoint {name} is not whole: {reason}.")
    return model, processor


def _check_fit(
    config: MultiHeadConfig | MultiHeadEnsembleConfig, processor: MultiHeadProcessor | MultiHeadEnsembleProcessor
) -> None:
    """Refuse a processor that would hand an encoder tokens or places that it has none of: a batch would fail by it."""
    processors = getattr(processor, "processors", [processor])
    members = zip(config.members, config.readers, strict=True) if hasattr(config, "members") else [(config, 0)]
    for member, reader in members:
        one = processors[reader]
        if member.text_config is not None and one.tokenizer is not None:
            most = count_positions(member.text_config, one.tokenizer, "the checkpoint")
            if one.max_length > most:
                raise ValueError(f"its max_length is {one.max_length:,}, and its encoder reads {most:,} tokens")
