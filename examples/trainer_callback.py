"""A callback for the Hugging Face Trainer

`CollapseTrainerCallback` measures the model of a `transformers.Trainer` after every epoch and writes the values
into the log beside the Trainer's own, from where they reach every report and come back with its checkpoints. The
model here is a small BERT that learns which of eight words occurs in a sentence of made-up words. In the picture
the samples of a class meet (NC1) while the loss is still large, and keep drawing together; the class means, seen by
NC2 and NC3, are far from a simplex even after thirty epochs.
"""

import altair as alt
import pandas as pd
import torch
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments, logging

from tightframe.integrations.transformers import CollapseTrainerCallback

logging.set_verbosity_error()
torch.manual_seed(0)
words = torch.randint(10, 60, (768, 12))
labels = torch.arange(768) % 8
words[torch.arange(768), torch.randint(1, 12, (768,))] = labels + 2
words[:, 0] = 1
sentences = [{"input_ids": row, "labels": label} for row, label in zip(words, labels, strict=True)]

config = BertConfig(
    vocab_size=60, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, num_labels=8,
    max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
arguments = TrainingArguments(
    output_dir="trained", num_train_epochs=30, per_device_train_batch_size=64, learning_rate=2e-3, weight_decay=0.05,
    logging_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, seed=0,
)  # fmt: skip
callback = CollapseTrainerCallback("train", metrics=("NC1", "NC2 features", "NC3"))
model = BertForSequenceClassification(config)
trainer = Trainer(model, arguments, train_dataset=sentences, callbacks=[callback])
trainer.remove_callback(PrinterCallback)  # the log is read below
trainer.train()

names = {
    "loss": "training loss",
    "collapse/train/NC1": "NC1",
    "collapse/train/NC2 features": "NC2 features",
    "collapse/train/NC3": "NC3",
}
rows = [
    {"epoch": round(entry["epoch"]), "measure": shown, "value": float(entry[name])}
    for entry in trainer.state.log_history
    for name, shown in names.items()
    if name in entry
]
table = pd.DataFrame(rows)
wide = table.pivot(index="epoch", columns="measure", values="value")
print(wide.loc[[1, 3, 10, 20, 30]].round(5).to_string())

values = alt.Axis(values=[10.0**power for power in range(-4, 2)], format="~g")
chart = (
    alt.Chart(table)
    .mark_line(strokeWidth=2.5)
    .encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickCount=6)),
        y=alt.Y("value:Q", scale=alt.Scale(type="log"), axis=values),
        color=alt.Color("measure:N", title=None, legend=alt.Legend(orient="top")),
    )
    .properties(width=480, height=280)
)
chart.save("trainer_callback.png", scale_factor=1.7)
