"""What tasks of several depths share is read once."""

import numpy as np

from lth_flax.config import Config
from lth_flax.data import embeddings
from lth_flax.data.sources import load_source
from lth_flax.text_tasks import prepare_data, text_tasks


def test_word_vectors_are_read_once_for_all_depths_and_seeds(tmp_path, monkeypatch):
    path = tmp_path / "vectors.txt"
    path.write_text("the 1 2\nwas 3 4\n")
    config = Config(
        dataset="synthetic", synthetic_size=100, batch_size=8, embedding_size=2, hidden_size=2,
        embeddings_file=str(path),
    )  # fmt: skip
    seeds = (0, 1)
    dataset = prepare_data(config, load_source(config), seeds)
    assert dataset.vocabularies[0].words != dataset.vocabularies[1].words
    opened, read = [], embeddings.open_unpacked
    monkeypatch.setattr(embeddings, "open_unpacked", lambda *a: opened.append(a) or read(*a))
    task_of = text_tasks(config, dataset, seeds)
    for depth in (1, 2):
        start = task_of(depth).start
        for seed in seeds:
            ids = dataset.vocabularies[seed].ids
            table = np.zeros((dataset.vocabulary_size, 2), np.float32)
            found = start({"embedding": {"embedding": table}}, seed)["embedding"]["embedding"]
            assert found[ids["the"]].tolist() == [1, 2]
            assert found[ids["was"]].tolist() == [3, 4]
            assert np.count_nonzero(found) == 4
    assert len(opened) == 1
