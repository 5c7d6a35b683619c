"""One training of SetFit: python setfit_texts.py PROBLEM.json ANSWER.json."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from setfit import SetFitModel, Trainer, TrainingArguments
from torch import Tensor, nn

from datasets import Dataset

PAIRS_AN_EXAMPLE = 20


def main() -> None:
    """Trains on the problem's texts and answers its test texts."""
    problem = json.loads(Path(sys.argv[1]).read_text())
    names = sorted(set(problem["labels"]))
    labels = [names.index(label) for label in problem["labels"]]
    model = SetFitModel.from_pretrained(problem["encoder"])
    if problem["packed"]:
        pack(model.model_body[0])
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


def pack(encoder: Any) -> None:
    """Has a sentence transformer's encoder read a batch as one row without padding.

    Only attention, in which each text sees itself alone, is computed on padded texts.
    """
    padded, attention = encoder.forward, nn.functional.scaled_dot_product_attention

    def forward(features: dict[str, Any], **options: Any) -> dict[str, Any]:
        there = features["attention_mask"].bool()
        texts, positions = there.nonzero(as_tuple=True)

        def each_to_itself(*row: Tensor, attn_mask: Tensor | None, **settings: Any) -> Tensor:
            apart = [
                each.new_zeros(*there.shape, each.shape[1], each.shape[3])
                .index_put((texts, positions), each[0].transpose(0, 1))
                .transpose(1, 2)
                for each in row
            ]
            seen = attention(*apart, attn_mask=there[:, None, None], **settings)
            return seen.transpose(1, 2)[texts, positions].transpose(0, 1)[None]

        nn.functional.scaled_dot_product_attention = each_to_itself
        try:
            tokens = padded(
                {
                    "input_ids": features["input_ids"][there][None],
                    "token_type_ids": features["token_type_ids"][there][None],
                    "position_ids": positions[None],
                },
                **options,
            )["token_embeddings"][0]
        finally:
            nn.functional.scaled_dot_product_attention = attention
        empty = tokens.new_zeros(*there.shape, tokens.shape[-1])
        return {**features, "token_embeddings": empty.index_put((texts, positions), tokens)}

    encoder.forward = forward


if __name__ == "__main__":
    main()
