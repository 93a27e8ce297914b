"""What model cards say about built-in tasks and known encoders that no run folder records: origins, terms, papers.

Facts only; the words around them are in `model_card_template.md`, and `cards.py` puts both together. A user's own
data and other encoders need no entry: their cards leave these lines out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..backbones.registry import PACKAGED

# The Hub ids of the packaged weights' originals. The EfficientNet package and timm ported the same published weights.
HUB_IDS = {name: packaged.source for name, packaged in PACKAGED.items() if not packaged.source.startswith("http")} | {
    "efficientnet-lite0": "timm/tf_efficientnet_lite0.in1k"
}

# What a score is called: metric id on the Hub, its arguments, suffix in metrics.json, its name.
METRICS = {
    "single_label": [
        ("accuracy", None, "accuracy", "accuracy"),
        ("f1", {"average": "macro"}, "macro_f1", "macro-F1"),
    ],
    "multi_label": [
        ("f1", {"average": "micro"}, "micro_f1", "micro-F1"),
        ("f1", {"average": "macro"}, "macro_f1", "macro-F1"),
    ],
    "regression": [("mae", None, "mae", "MAE"), ("r_squared", None, "r2", "R²")],
}


@dataclass(frozen=True)
class DataFacts:
    """What is known about a built-in task's data beyond a run's own files.

    Args:
        title: what the data is called.
        about: where the rows are from, as a sentence.
        limits: what the data can't teach, as a sentence.
        text: what the text input is, with its article.
        image: what the picture is, likewise; None for a task of texts.
        example: a text to try.
        hub_id: Hub id of the data set, or None.
        config: the data set's configuration.
        licence: of the rows, in words.
        sample: whether it is an embedded sample, made to show that things work.
        of_csv: what else can't be taught where the rows are from a csv, the form of a competition's copy.
    """

    title: str
    about: str
    limits: str
    text: str
    image: str | None = None
    example: str = ""
    hub_id: str | None = None
    config: str | None = None
    licence: str | None = None
    sample: bool = False
    of_csv: str = ""


_HEADLINE, _PLACE = "내년 예산안 국회 본회의 통과", "해 뜨는 모습이 아름다운 동해의 바닷가"
DATA = {
    "ynat": DataFacts(
        title="KLUE-YNAT",
        about="Headlines of one Korean news agency, 2016 to 2020, with the topic that annotators chose.",
        limits="The headlines are one agency's, of 2016 to 2020: other media, whole articles, and names and events "
        "that came later were not measured.",
        text="a Korean news headline",
        example=_HEADLINE,
        hub_id="klue/klue",
        config="ynat",
        of_csv="The rows are from a csv, as the DACON competition gives them: its files mix KLUE's train and "
        "validation rows, so do not score this model on KLUE's validation split.",
        licence="KLUE is CC BY-SA 4.0; a competition's copy of it may come under terms of its own",
    ),
    "ynat-mini": DataFacts(
        title="hfk's embedded sample of headlines",
        about="Korean headlines put together from templates by a script.",
        limits="The headlines are made from templates: the scores say nothing about real ones.",
        text="a Korean news headline",
        example=_HEADLINE,
        licence="the sample is part of hfk (Apache-2.0)",
        sample=True,
    ),
    "tour": DataFacts(
        title="the tourism competition DACON 235978",
        about="Overviews and photos of Korean places, with three levels of category.",
        limits="The overviews are edited by a tourism board: reviews and posts read otherwise. The categories are very "
        "unequal in size.",
        text="the Korean description of a place",
        image="its photo",
        example=_PLACE,
        licence="the competition's rows and photos come under its host's terms and are not part of this checkpoint",
    ),
    "tour-mini": DataFacts(
        title="hfk's embedded sample of places",
        about="Korean descriptions put together from templates, and pictures drawn by a script.",
        limits="Texts and pictures are made by a script: the scores say nothing about real places and photos.",
        text="the Korean description of a place",
        image="its photo",
        example=_PLACE,
        licence="the sample is part of hfk (Apache-2.0)",
        sample=True,
    ),
}
# What to cite, by the beginning of an encoder's or data set's Hub id.
PAPERS = {
    "intfloat/multilingual-e5": """@article{wang2024multilingual,
  title = {Multilingual E5 Text Embeddings: A Technical Report},
  author = {Wang, Liang and Yang, Nan and Huang, Xiaolong and Yang, Linjun and Majumder, Rangan and Wei, Furu},
  journal = {arXiv preprint arXiv:2402.05672},
  year = {2024}
}""",
    "timm/tf_efficientnet": """@inproceedings{tan2019efficientnet,
  title = {EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks},
  author = {Tan, Mingxing and Le, Quoc V.},
  booktitle = {International Conference on Machine Learning},
  year = {2019}
}""",
    "google/vit-": """@inproceedings{dosovitskiy2021image,
  title = {An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale},
  author = {Dosovitskiy, Alexey and others},
  booktitle = {International Conference on Learning Representations},
  year = {2021}
}""",
    "klue/": """@inproceedings{park2021klue,
  title = {KLUE: Korean Language Understanding Evaluation},
  author = {Park, Sungjoon and others},
  booktitle = {NeurIPS Datasets and Benchmarks},
  year = {2021}
}""",
}
# Any other data.
OTHER = DataFacts(title="", about="", limits="", text="a text", image="a picture", example="여기에 분류할 글을 씁니다.")
