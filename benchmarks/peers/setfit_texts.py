"""One training of SetFit: python setfit_texts.py PROBLEM.json ANSWER.json."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from setfit import SetFitModel, Trainer, TrainingArguments

from datasets import Dataset

PAIRS_AN_EXAMPLE = 20


def main() -> None:
    """Trains on the problem's texts and answers its test texts."""
    problem = json.loads(Path(sys.argv[1]).read_text())
    names = sorted(set(problem["labels"]))
    labels = [names.index(label) for label in problem["labels"]]
    model = SetFitModel.from_pretrained(problem["encoder"])
    started = time.process_time()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            num_iterations=PAIRS_AN_EXAMPLE,
            num_epochs=1,
            seed=problem["seed"],
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        ),
        train_dataset=Dataset.from_dict({"text": problem["texts"], "label": labels}),
    )
    trainer.train()
    seconds = time.process_time() - started
    answers = model.predict(problem["test_texts"], show_progress_bar=False).tolist()
    answer = {"labels": [names[number] for number in answers], "core_seconds": seconds}
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
