"""A callback for Lightning

`CollapseCallback` measures the module that is being trained after every epoch, on the training or the validation
data, and logs the values as `collapse/train/NC1` and so on, so that loggers and other callbacks see them. Training
is the same, bit for bit, with and without it. Two of them watch both splits here. In the picture the spread of the
training features falls to the end, and that of held-out digits stops at a higher level: collapse is a property of
the data a network was trained on.
"""

import logging

import altair as alt
import lightning
import pandas as pd
import torch
from torch.utils.data import DataLoader

import tightframe
from tightframe.data.labelled.digits import digits
from tightframe.integrations.lightning import CollapseCallback

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Digits(lightning.LightningModule):
    """A network and how it is trained."""

    def __init__(self):
        super().__init__()
        self.network = tightframe.nn.networks.build("mlp-bn", shape=(1, 8, 8), classes=10, width=128, depth=3)

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch):
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-3)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)}


lightning.seed_everything(0, verbose=False)
data = digits()
callbacks = [CollapseCallback("train"), CollapseCallback("val")]
trainer = lightning.Trainer(
    max_epochs=40,
    accelerator="cpu",
    callbacks=callbacks,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    num_sanity_val_steps=0,
)
trainer.fit(Digits(), DataLoader(data.train, batch_size=128, shuffle=True), DataLoader(data.test, batch_size=512))

logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
for name in ("accuracy", "collapse/train/NC1", "collapse/val/NC1", "collapse/train/NC3", "collapse/val/NC3"):
    print(f"{name:20} {logged[name]:.4f}")

history = pd.DataFrame(row for callback in callbacks for row in callback.history)
history = history[history["metric"].isin(["NC1", "NC2 features", "NC3"])]
history["data"] = history["split"].map({"train": "training", "val": "held out"})
history["epoch"] += 1
values = alt.Axis(values=[0.01, 0.03, 0.1, 0.3, 1, 3], format="~g")
chart = (
    alt.Chart(history)
    .mark_line(strokeWidth=2.5)
    .encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickCount=5)),
        y=alt.Y("value:Q", scale=alt.Scale(type="log"), axis=values),
        color=alt.Color("metric:N", title=None),
        strokeDash=alt.StrokeDash("data:N", sort=["training", "held out"]),
    )
    .properties(width=460, height=280)
)
chart.save("lightning_callback.png", scale_factor=1.7)
