"""Makes the models known to transformers. Only hfk itself imports it: this module travels with no checkpoint.

The code beside a checkpoint registers nothing. Else, in a process without hfk, the code of the first checkpoint would
run in place of the second one's.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_ensemble import MultiHeadEnsembleConfig
from .configuration_multihead import MultiHeadConfig
from .encoders import ENCODERS
from .modeling_ensemble import MultiHeadEnsemble
from .modeling_multihead import MultiHeadForClassification
from .pipeline_multihead import MultiHeadClassificationPipeline
from .processing_ensemble import MultiHeadEnsembleProcessor
from .processing_multihead import MultiHeadProcessor

for model in (*ENCODERS.values(), MultiHeadForClassification, MultiHeadEnsemble):
    AutoConfig.register(model.config_class.model_type, model.config_class, exist_ok=True)
    AutoModel.register(model.config_class, model, exist_ok=True)
AutoProcessor.register(MultiHeadConfig, MultiHeadProcessor, exist_ok=True)
AutoProcessor.register(MultiHeadEnsembleConfig, MultiHeadEnsembleProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "multi-head-classification",
    pipeline_class=MultiHeadClassificationPipeline,
    pt_model=AutoModel,
    type="multimodal",
)
