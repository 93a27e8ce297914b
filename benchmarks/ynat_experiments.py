"""Ideas for fine-tuning the packaged Korean E5 on news topics, each against the plain recipe.

Every idea is the recipe `ynat` with a few options changed and nothing else: same rows, same seed. To tell small
differences apart, a short run is scored on many rows: 12,000 rows of one half of the training table are trained on, the
whole other half (18,262 rows) is scored, once, at the end. The table gives each idea's difference from the plain recipe
on the same rows, with a paired bootstrap interval over rows. It does not cover the difference between seeds; `--seed`
runs an idea with another.

    python benchmarks/ynat_experiments.py plain r_drop_2_epochs --data ../shared/data/ynat/train.csv
    python benchmarks/ynat_experiments.py --table
    python benchmarks/ynat_experiments.py --together plain r_drop_2_epochs mlm    # their probabilities averaged
    python benchmarks/ynat_experiments.py --padding --data ../shared/data/ynat/train.csv
    python benchmarks/ynat_experiments.py mlm --data ../shared/data/ynat/train.csv --titles unlabelled.csv

An idea that has finished is not run again. What was found is in ynat.md.
"""

from __future__ import annotations

import argparse
import json
import time
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from hfk.backbones import registry as backbones
from hfk.tasks.tables import read_table
from hfk.training.order import count_tokens
from hfk.training.train import prepare

RUNS = Path(__file__).parents[1] / "runs" / "ynat_experiments"
PROTOCOL = {"split": {"folds": 2, "fold": 0, "seed": 42}, "max_train_rows": 12000, "eval_strategy": "no",
            "save_strategy": "no", "load_best_model_at_end": False, "logging_steps": 25}  # fmt: skip


@dataclass
class Idea:
    """What is changed.

    Args:
        options: of the recipe.
        masked: epochs of masked-language modeling on all titles before.
    """

    options: dict[str, Any] = field(default_factory=dict)
    masked: float = 0.0


IDEAS = {
    "plain": Idea(),
    "r_drop_2_epochs": Idea({"num_train_epochs": 2, "r_drop": 4.0}),
    "mlm": Idea(masked=1.0),
}


class Average(TrainerCallback):
    """Keeps an exponential moving average of the weights beside those that are trained, so that one run scores both.

    `techniques.averaging` leaves the average alone in the model, and lets its decay grow at first; here it is fixed.

    Args:
        model: the model.
        decay: how much of the average stays at a step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.average = model, AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the new weights in."""
        self.average.update_parameters(self.model)


def adapt(titles: list[str], epochs: float, folder: Path) -> str:
    """Go on with masked-language modeling on titles (Gururangan et al. 2020, arXiv:2004.10964), and save the encoder.

    The packaged encoder has no masked-language head: a new one is tied to its word embeddings.
    """
    if (folder / "model.safetensors").is_file():
        return str(folder)
    source = backbones.resolve("e5-small-ko", "text")
    set_seed(1)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)

    class MaskedTrainer(Trainer):
        def compute_loss(self, model: nn.Module, inputs: dict, return_outputs: bool = False, **kwargs: Any) -> Tensor:
            labels = inputs.pop("labels")
            hidden = model.base_model(**inputs).last_hidden_state
            chosen = labels != -100
            return F.cross_entropy(model.cls(hidden[chosen]).float(), labels[chosen])

    rows = Dataset.from_dict({"text": titles}).map(
        lambda batch: tokenizer(["query: " + title for title in batch["text"]], truncation=True, max_length=48),
        batched=True,
        remove_columns="text",
    )
    rows = rows.add_column("length", [len(ids) for ids in rows["input_ids"]])
    args = TrainingArguments(
        str(folder / "trainer"), num_train_epochs=epochs, per_device_train_batch_size=64, learning_rate=4e-4,
        warmup_steps=0.06, lr_scheduler_type="linear", weight_decay=0.01, bf16=True, use_cpu=True, report_to="none",
        save_strategy="no", logging_steps=50, train_sampling_strategy="group_by_length", seed=1,
    )  # fmt: skip
    trainer = MaskedTrainer(model, args, DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.2), rows)
    trainer.train()
    model.base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "log.json").write_text(json.dumps(trainer.state.log_history))
    return str(folder)


def run(name: str, data: str, titles: str | None, seed: int, decay: float, protocol: dict[str, Any]) -> None:
    """Try one idea; writes `NAME-SEED.json` and the scored rows' probabilities."""
    idea, target = IDEAS[name], RUNS / f"{name}-{seed}.json"
    if target.is_file():
        return
    options = {"data": data, "seed": seed} | protocol | deepcopy(idea.options)
    started = time.perf_counter()
    if idea.masked:
        texts = [title for path in (data, titles) if path for title in read_table(path)["title"]]
        options["text_encoder"] = adapt(texts, idea.masked, RUNS / f"adapted-{idea.masked:g}")
    adapted = time.perf_counter() - started
    prepared = prepare("ynat", RUNS / f"{name}-{seed}", options, resume=False)
    trainer = prepared.trainer
    average = Average(trainer.model, decay)
    trainer.add_callback(average)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    head = trainer.heads[0]
    facts = {"idea": name, "seed": seed, "seconds": seconds, "adapted_seconds": adapted, "options": options}
    arrays = {}
    for kind in ("last", "average"):
        if kind == "average":
            trainer.model.load_state_dict(average.average.module.state_dict())
        output = trainer.predict(prepared.data["validation"])
        logits, labels = output.predictions[head.name], output.label_ids[head.name]
        answers = logits.argmax(-1)
        arrays |= {kind: logits.astype(np.float16), "labels": labels}
        facts[kind] = {
            "accuracy": accuracy_score(labels, answers),
            "macro_f1": f1_score(labels, answers, average="macro"),
        }
        if kind == "last":
            trainer.model.save_pretrained(RUNS / f"{name}-{seed}")
            prepared.trainer.processor.save_pretrained(RUNS / f"{name}-{seed}")
    np.savez(target.with_suffix(".npz"), **arrays)
    target.write_text(json.dumps(facts, indent=1, default=str))
    print(name, seed, facts["last"], facts["average"], f"{seconds:.0f} s", flush=True)


def table() -> str:
    """Return what has been tried so far, as Markdown."""
    lines = ["| idea | seed | accuracy | macro-F1 | difference from plain | with averaged weights | seconds |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    tried = [json.loads(path.read_text()) for path in sorted(RUNS.glob("*.json"))]
    plain = {facts["seed"]: facts for facts in tried if facts["idea"] == "plain"}
    rng = np.random.default_rng(0)
    for facts in sorted(tried, key=lambda facts: -facts["last"]["accuracy"]):
        between = ""
        if facts["seed"] in plain and facts["idea"] != "plain":
            own, base = (np.load(RUNS / f"{name}-{facts['seed']}.npz") for name in (facts["idea"], "plain"))
            gain = (own["last"].argmax(-1) == own["labels"]).astype(int) - (base["last"].argmax(-1) == base["labels"])
            means = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(1000)]
            low, high = np.quantile(means, [0.025, 0.975])
            between = f"{100 * gain.mean():+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
        cells = [facts["idea"], facts["seed"], f"{facts['last']['accuracy']:.4f}", f"{facts['last']['macro_f1']:.4f}"]
        cells += [between, f"{facts['average']['accuracy']:.4f}", f"{facts['seconds'] + facts['adapted_seconds']:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def together(ideas: list[str], seed: int) -> str:
    """Score the mean of several ideas' probabilities on the rows that all were scored on."""
    found = [np.load(RUNS / f"{idea}-{seed}.npz") for idea in ideas]
    mean = sum(softmax(one["last"].astype(np.float64), axis=1) for one in found)
    right = mean.argmax(-1) == found[0]["labels"]
    return f"{' + '.join(ideas)}: accuracy {right.mean():.4f}"


def padding(data: str) -> str:
    """Count the tokens a row, padding included, of training batches that are grouped in two ways."""
    prepared = prepare("ynat", RUNS / "padding", {"data": data, "standardize_rows": 0}, resume=False)
    rows, size = prepared.data["train"], prepared.recipe.arguments.per_device_train_batch_size
    tokens = np.array(count_tokens(rows, prepared.trainer.processor))
    lengths = {"characters": [len(text) for text in rows["text"]], "tokens": tokens.tolist()}
    lines = [f"{tokens.mean():.1f} tokens a row"]
    for name, values in lengths.items():
        order = get_length_grouped_indices(values, size, generator=torch.Generator().manual_seed(0))
        batches = [tokens[order[start : start + size]] for start in range(0, len(order), size)]
        padded = sum(batch.max() * len(batch) for batch in batches) / len(order)
        lines.append(f"{padded:.1f} with padding, in batches grouped by {name}")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ideas", nargs="*", help=f"of: {', '.join(IDEAS)}")
    parser.add_argument("--data", help="the competition's train.csv")
    parser.add_argument("--titles", help="table of more titles, for mlm; its labels are never read")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--decay", type=float, default=0.99, help="of the averaged weights")
    parser.add_argument("--rows", type=int, default=PROTOCOL["max_train_rows"], help="training rows")
    parser.add_argument("--table", action="store_true", help="only print what has been tried")
    parser.add_argument("--together", action="store_true", help="only score the mean of the ideas named")
    parser.add_argument("--padding", action="store_true", help="only count padding")
    args = parser.parse_intermixed_args()
    unknown = [idea for idea in args.ideas if idea not in IDEAS]
    if unknown or not (args.table or (args.ideas and args.together) or (args.data and (args.ideas or args.padding))):
        parser.error(f"no idea {unknown[0]!r}" if unknown else "name ideas and --data, or --table")
    RUNS.mkdir(parents=True, exist_ok=True)
    if args.padding or args.together:
        print(padding(args.data) if args.padding else together(args.ideas, args.seed))
        return
    for idea in args.ideas:
        run(idea, args.data, args.titles, args.seed, args.decay, PROTOCOL | {"max_train_rows": args.rows})
    print(table())


if __name__ == "__main__":
    main()
