"""TFDS sets as they are prepared: other configurations, formats and labels."""

import shutil
import sys

import numpy as np
import pytest

from lth_flax.config import Config
from lth_flax.data import imdb
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError


def complaint(name, data_dir, **options):
    with pytest.raises(UserError) as error:
        load_source(Config(dataset=name, data_dir=str(data_dir), **options))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A small text classification set of the tests' own, prepared as any TFDS set is."""
    import tensorflow_datasets as tfds

    class TinyTopics(tfds.core.GeneratorBasedBuilder):
        """Three splits: test labels are withheld."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "headline": tfds.features.Text(),
                "topic": tfds.features.ClassLabel(names=["sports", "trade"]),
                "stars": np.int64,
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                split: self._generate_examples(split) for split in ("train", "validation", "test")
            }

        def _generate_examples(self, split):
            for i in range(4):
                topic = -1 if split == "test" else i % 2
                headline = f"{split} {i} <b>&amp;</b> https://x.y"
                yield i, {"headline": headline, "topic": topic, "stars": 3 + i % 3}

    folder = tmp_path_factory.mktemp("tfds")
    with imdb.quiet_tfds():
        TinyTopics(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


@pytest.fixture(scope="module")
def configured():
    """A function that prepares some configurations of one set in a folder."""
    import tensorflow_datasets as tfds

    class TinyReviews(tfds.core.GeneratorBasedBuilder):
        """Two splits; a class that no text has, and texts without a class."""

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(name=name, description=name) for name in ("short", "long")
        ]

        def _info(self):
            features = {
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["bad", "odd", "good"]),
                "mood": tfds.features.ClassLabel(names=["low", "high"]),
                "score": np.int64,
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in ("train", "test")}

        def _generate_examples(self, split):
            for i in range(6):
                label = -1 if i == 5 else 2 * (i % 2)
                text = f"{self.builder_config.name} {split} {i}"
                yield i, {"text": text, "label": label, "mood": -1, "score": i % 3 - 1}

    def prepare(folder, *names):
        with imdb.quiet_tfds():
            for name in names:
                builder = TinyReviews(data_dir=folder, config=name, file_format="array_record")
                builder.download_and_prepare()
        return folder

    return prepare


def test_the_configuration_that_is_prepared_is_read_and_named(configured, tmp_path):
    # "short" is the first that the code lists.
    configured(tmp_path, "long")
    for name in ("tiny_reviews", "tiny_reviews/long", "tiny_reviews:1.0.0"):
        source = load_source(Config(dataset=name, data_dir=str(tmp_path)))
        assert source.texts[0].startswith("long")
        assert f"{name}: configuration long, version 1.0.0" in source.notes
    message = complaint("tiny_reviews/short", tmp_path)
    assert "tiny_reviews/short is not prepared" in message
    assert "tfds build tiny_reviews/short" in message
    assert "delete" not in message
    message = complaint("tiny_reviews/nope", tmp_path)
    assert "found tiny_reviews/long" in message


def test_of_several_configurations_none_is_taken_silently(configured, tmp_path):
    configured(tmp_path, "short", "long")
    message = complaint("tiny_reviews", tmp_path)
    assert "2 configurations" in message
    assert "tiny_reviews/long, tiny_reviews/short" in message
    source = load_source(Config(dataset="tiny_reviews/short", data_dir=str(tmp_path)))
    assert source.texts[0].startswith("short")


def test_of_no_configuration_all_are_named(configured, tmp_path):
    message = complaint("tiny_reviews", tmp_path)
    assert "short, long" in message
    assert "tfds build tiny_reviews/CONFIGURATION" in message


def test_texts_without_a_label_and_classes_without_a_text(configured, tmp_path):
    configured(tmp_path, "long")
    source = load_source(Config(dataset="tiny_reviews", data_dir=str(tmp_path)))
    assert source.class_names == ("bad", "good")
    found = dict(zip(source.texts, source.labels.tolist(), strict=True))
    assert found == {f"long {s} {i}": i % 2 for s in ("train", "test") for i in range(5)}
    notes = "; ".join(source.notes)
    assert "no text is of class odd: left out" in notes
    assert "1 texts of train without a label left out" in notes
    names = {path.name for path in source.files}
    assert {"dataset_info.json", "features.json", "label.labels.txt"} < names
    assert sum("array_record" in name for name in names) == 2
    # Numbers may be negative: -1 is one of them.
    scores = load_source(Config(dataset="tiny_reviews", data_dir=str(tmp_path), label_key="score"))
    assert scores.class_names == ("-1", "0", "1")
    assert len(scores.texts) == 12


def test_labels_that_are_all_withheld(configured, tmp_path):
    configured(tmp_path, "long")
    message = complaint("tiny_reviews", tmp_path, label_key="mood")
    assert "no text of its train split has a label in 'mood'" in message
    assert "give another --label_key (label, score)" in message


def test_another_format_is_named_and_sound_data_stays(configured, tmp_path):
    configured(tmp_path, "long")
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for path in list(tmp_path.rglob("*array_record*")):
        path.rename(path.with_name(path.name.replace("array_record", "tfrecord")))
    message = complaint("tiny_reviews", tmp_path)
    assert "stored as tfrecord" in message
    assert "expected array_record" in message
    assert "delete" not in message
    assert "may stay" in message


def test_a_set_without_labels(tmp_path):
    import tensorflow_datasets as tfds

    class TinyPoems(tfds.core.GeneratorBasedBuilder):
        """Texts alone."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {"poem": tfds.features.Text(), "weight": np.float32}
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"poem": "roses", "weight": 1.0}

    with imdb.quiet_tfds():
        TinyPoems(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    message = complaint("tiny_poems", tmp_path)
    assert "no feature that is a class or a whole number" in message
    assert "poem, weight" in message
    assert "another --dataset" in message


def test_any_tfds_set(tfds_dir, capsys):
    """Features are found by type; validation is the test split where test has no labels."""
    source = load_source(Config(dataset="tiny_topics", data_dir=tfds_dir))
    assert source.class_names == ("sports", "trade")
    rows = zip(source.texts, source.labels.tolist(), source.official["test"].tolist(), strict=True)
    expected = {(f"train {i} &", i % 2, False) for i in range(4)}
    assert set(rows) == expected | {(f"validation {i} &", i % 2, True) for i in range(4)}
    assert capsys.readouterr() == ("", "")
    assert "tensorflow" not in sys.modules


def test_tfds_integer_labels(tfds_dir):
    source = load_source(
        Config(dataset="tiny_topics", data_dir=tfds_dir, text_key="headline", label_key="stars")
    )
    assert source.class_names == ("3", "4", "5")
    names = [source.class_names[label] for label in source.labels]
    assert [int(text.split()[1]) % 3 + 3 for text in source.texts] == list(map(int, names))
    assert [text.split()[0] for text in source.texts] == ["train"] * 4 + ["test"] * 4


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"text_key": "body"}, ["no text called 'body'", "headline"]),
        ({"label_key": "headline"}, ["no label called 'headline'", "stars, topic"]),
    ],
)
def test_tfds_wrong_keys(tfds_dir, keys, parts):
    message = complaint("tiny_topics", tfds_dir, **keys)
    assert all(part in message for part in parts)


def test_tfds_set_that_is_not_prepared(tmp_path):
    message = complaint("ag_news_subset", tmp_path, text_key="title")
    assert "not prepared" in message
    assert "--data_dir" in message
    assert list(tmp_path.iterdir()) == []


def test_damaged_tfds_set(tfds_dir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tfds_dir, copy)
    for path in copy.rglob("*train*"):
        path.unlink()
    message = complaint("tiny_topics", copy)
    assert "cannot read split train" in message
    assert "tiny_topics-train.array_record-00000-of-00001 of 1 files not in" in message


def test_a_damaged_description_is_not_an_unknown_name(tfds_dir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tfds_dir, copy)
    (info,) = copy.rglob("dataset_info.json")
    info.write_bytes(info.read_bytes()[:40])
    message = complaint("tiny_topics", copy)
    assert f"cannot read tiny_topics in {copy / 'tiny_topics'}" in message
    assert "prepare it again" in message
