"""Continued pretraining on raw text, packed into full sequences, with trl's SFTTrainer."""

from polm_core.blocks import DATA, MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import Method, Paper, Paradigm
from polm_core.methods.fine_tuning.sft import CHARTS, SupervisedConfig, train_supervised

FORMATS = (Format.TEXT,)


class ContinuedPretrainingConfig(SupervisedConfig):
    """Settings of continued pretraining: every token is trained on."""

    learning_rate: float = setting(5e-5, group=MAIN, source="Don't Stop Pretraining, arXiv 2004.10964", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    packing: bool = setting(True, group=DATA, source="trl")
    """Join the texts and cut them into sequences of the longest length, so that no step is wasted on padding."""


def run(config: ContinuedPretrainingConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    return train_supervised(config, context, formats=FORMATS, loss_on="everything", packing_strategy="wrapped")


METHOD = Method(
    slug="continued-pretraining",
    title="Continued pretraining",
    paradigm=Paradigm.INTEGRATION,
    branch="Domain adaptation",
    summary="Trains on plain text, so that the model learns a domain's language and facts.",
    when="You have much text of a domain and no questions and answers. Fine-tune afterwards.",
    paper=Paper("Don't Stop Pretraining: Adapt Language Models to Domains and Tasks", "2004.10964"),
    objective="Minimises the negative log-likelihood of every token of the text, as pretraining does.",
    formula="L = -1/n Σ_{t ≤ n} log π(y_t | y_{<t})",
    watch=(
        "Loss on general text beside that of the domain: it rises as the model forgets. Mix in general text or lower "
        "the learning rate.",
        "A chat model loses its manners on raw text: train the base model, and fine-tune it afterwards.",
        "A jump of the loss at the start: the learning rate climbs too fast. Give it a warm-up.",
        "Near-duplicate texts: they are learned by heart, and the same text held out makes the held-out loss a lie.",
    ),
    formats=FORMATS,
    config=ContinuedPretrainingConfig,
    run=run,
    charts=CHARTS,
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "max_length", "adapter.type"),
)
